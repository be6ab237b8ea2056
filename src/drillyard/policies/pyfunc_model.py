"""A bundle as an MLflow model: "models from code", so that nothing is pickled.

MLflow runs this file where the model is loaded; numpy and onnxruntime are all it needs.
"""

import importlib.util

import mlflow.pyfunc
from mlflow.models import set_model


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Named states in, named actions out; rows are observations."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Take the bundle's own loader."""
        folder = context.artifacts["bundle"]
        spec = importlib.util.spec_from_file_location("drillyard_act", f"{folder}/act.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._policy = module.Policy(folder)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Actions by name, in their units; MLflow takes a type hint here for a schema.

        Args:
            context: MLflow's.
            model_input: A column a state, in its unit.
            params: None are taken.
        """
        return self._policy.act_named(model_input.to_dict("records"))


set_model(Served())
