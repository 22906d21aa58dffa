"""Small MAML trainers, and their checkpoints in the layout of a run folder."""

import hashlib
import json

from safetensors.numpy import save_file

from trainers.declarations import as_json, make_settings
from trainers.hyperparameters import MAMLHyperparameters, MAMLSetup
from trainers.maml import MAML
from trainers.presets import preset_for

SMALL = {
    "meta_batch_size": 6,
    "inner_steps": 2,
    "hidden_sizes": (12,),
    "eval_tasks": 8,
    "picture_every": None,
}


def trainer(task="xor", setup=None, **values):
    preset = preset_for("maml", task)
    start = preset.hyperparameters if preset else {}
    hyperparameters = make_settings(MAMLHyperparameters, {**start, **SMALL, **values})
    return MAML(MAMLSetup(task=task, **(setup or {})), hyperparameters)


def write_run(run, maml):
    run.mkdir()
    config = {
        "trainer": "maml",
        "setup": as_json(maml.setup),
        "hyperparameters": as_json(maml.settings.values),
    }
    (run / "run.json").write_text(json.dumps(config))
    return write_checkpoint(run, maml)


def write_checkpoint(run, maml):
    folder, state = run / "checkpoints" / f"{maml.iteration:08d}", maml.state()
    folder.mkdir(parents=True)
    save_file(state.weights, folder / "weights.safetensors")
    (folder / "state.json").write_text(json.dumps(state.numbers))
    names = ("weights.safetensors", "state.json")
    files = {name: {"sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()} for name in names}
    (folder / "manifest.json").write_text(json.dumps({"iteration": maml.iteration, "files": files}))
    return folder
