"""An MLflow server of one's own on Google Cloud: ``drillyard mlflow gcp up | status | down``.

``parts`` lists what it consists of, in the order in which it is made; each part has ``look``,
``ensure`` and ``delete``, all safe to repeat. Google's client is imported inside methods.
"""
