"""Policies after training: exported, served, compared.

What a training leaves, as the store phase publishes it (``drillyard.results.store_phase``)::

    runs/<run>/policy/
        learner.json            algorithm, policy class and arguments
        spaces.json             observation and action space of the network
        policy.safetensors      weights of the policy that was evaluated (best, else final)
        normalisation.npz       statistics of the training's normalisation, where there is one
        best_model.zip, final_model.zip    for other tools; never read by drillyard

What ``drillyard export`` makes of it is a **bundle**: a folder that stands for itself, needs no
simulator and no training code, and is moved as it is::

    learner.json, policy_<which>.safetensors, normalisation_<which>.npz
                    what a training can begin with (``learner.init_from``)
    policy.onnx     of ``--format onnx``: what acts
    spaces.json     spaces, channels (names, units, ranges), memory, noise, masks
    bundle.json     sha256 of every file, run, experiment, format, measured numbers; written last
    act.py          of ``--format onnx``: loader; numpy and onnxruntime, nothing else
    README.md       the model card

A bundle is read after its hashes were compared, and without running anything in it. Everything
else (a zip of Stable-Baselines3) goes through ``drillyard import`` first.
"""
