"""Memory that dreams take, by what the params ask for; right to a factor of two or so, as in model/footprint.py."""

from dataclasses import replace

import torch

from worldmodel.core.jobs import workers_here
from worldmodel.core.memory import Need, require
from worldmodel.core.params import Dreams
from worldmodel.dreams.starts import CHUNK
from worldmodel.model.footprint import FLOAT, on, parameters, predicting, training
from worldmodel.model.shape import Shape

DREAM = 3000  # bytes, of a dream without its frames
COPIES = 3  # of a dream's frames: in raw units, packed to be judged, on the way
KERNELS = 6  # matrices of all points, in double precision, while a Gaussian process is fitted


def require_for_dreams(shape: Shape, dreams: Dreams, frames: int, device: torch.device) -> None:
    """Raises ValueError where memory lacks what the dreams, or the teacher that dreams them, will take.

    `shape` is a member's, `frames` how many are logged.
    """
    width = shape.features + shape.actions + 3  # time, reward and confidence are the others
    dream = DREAM + COPIES * FLOAT * (shape.history + dreams.length) * width
    all_dreams = Need(dream * dreams.episodes, f"dreams.episodes {dreams.episodes}, dreams.length {dreams.length}")
    if dreams.source != "teacher":
        require("dreams", [all_dreams])
        return
    teacher, weights = dreams.teacher, FLOAT * parameters(shape)
    sizes = f"dreams.teacher.hidden_dim {teacher.hidden_dim}, dreams.teacher.z_dim {teacher.z_dim}"
    members = f"dreams.teacher.members {teacher.members}"
    fitting = Need(
        training(shape, teacher.batch_size),
        f"dreams.teacher.batch_size {teacher.batch_size}, dreams.teacher.horizon {teacher.horizon}, {sizes}",
        min(workers_here(), teacher.members),
    )
    dreaming = Need(
        teacher.members * predicting(replace(shape, horizon=dreams.length + 1), CHUNK),
        f"dreams.length {dreams.length}, {members}, {sizes}",
        min(workers_here(), -(-dreams.episodes // CHUNK)),
    )
    points = min(teacher.points, frames)
    kept = Need(teacher.members * weights, f"{members}, {sizes}")
    known = Need(KERNELS * 8 * points**2, f"dreams.teacher.points {teacher.points}")
    require("dreams", [fitting, kept], on(device))
    require("dreams", [known, kept])
    require("dreams", [all_dreams, dreaming])
