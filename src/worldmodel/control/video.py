"""The first episode of the planner to look at: as the environment draws it, or else as a chart."""

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from worldmodel.control.episodes import PLANNER
from worldmodel.control.run import Run
from worldmodel.control.simulator import Env, reset, step
from worldmodel.core.atomic import replacing

CHART, FILMS = ".png", (".gif", ".webp")
SUFFIXES = (CHART, *FILMS)
SIZE = 320  # most pixels of a side
FASTEST = 0.02  # seconds a picture, of what shows films
DRAWN = 4  # features of the chart, those that move most


def picture(run: Run, seed: int, found: Mapping[str, Any], path: Path) -> str:
    """Written to the path, or as a chart beside it where the environment cannot be drawn here: says which, and why."""
    if path.suffix == CHART:
        return _written(_chart(found["trace"]), path)
    try:
        frames = _frames(run, seed)
    except Exception as error:  # of drivers and libraries that are not there, whatever they raise
        path, why = path.with_suffix(CHART), " ".join(str(error).split())[:200]
        return f"{_written(_chart(found['trace']), path)}, a chart, as {run.case.env} cannot be drawn here ({why})"
    duration = max(FASTEST, run.interval_s or FASTEST) * 1000
    with replacing(path) as partial:
        frames[0].save(partial, path.suffix[1:], save_all=True, append_images=frames[1:], duration=duration, loop=0)
    return str(path)


def _frames(run: Run, seed: int) -> list[Image.Image]:
    """The episode once more: the same actions lead to the same frames."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("MUJOCO_GL", "egl")  # it draws without a screen
    with closing(run.case.made(render_mode="rgb_array")) as env:
        _follow(env)
        reset(env, seed)
        pictures = [env.render()]
        for action in run.rows[PLANNER][seed].actions:
            step(env, action)
            pictures.append(env.render())
    images = [Image.fromarray(np.asarray(each)) for each in pictures]
    for each in images:
        each.thumbnail((SIZE, SIZE))
    return images


def _follow(env: Env) -> None:
    """With the camera of MuJoCo's model that is made for it: Gymnasium's own stays, and what runs leaves it."""
    renderer, mujoco = getattr(env.unwrapped, "mujoco_renderer", None), sys.modules.get("mujoco")
    if renderer is not None and mujoco and renderer.camera_id == -1:
        renderer.camera_id = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")


def _chart(trace: Mapping[str, Any]) -> Figure:
    """Reward, disagreement and the features that move most along time, with plans as they were made."""
    features = np.array(trace["features"])
    scale = trace["seconds_per_frame"] or 1
    times = scale * np.arange(len(features))
    shown = np.sort(np.argsort(-_motion(features))[:DRAWN])
    figure = Figure((9, 1.7 * (2 + len(shown))), layout="constrained")
    reward, unsure, *rest = figure.subplots(2 + len(shown), sharex=True)
    reward.plot(times[:-1], trace["reward"], label="earned")
    if trace["predicted_reward"]:
        reward.plot(times[:-1], trace["predicted_reward"], label="predicted", linestyle="--")
    reward.set_title("reward", loc="left")
    reward.legend(frameon=False, ncols=2, loc="best")
    unsure.plot(times[:-1], trace["disagreement"] or np.zeros(len(times) - 1), color="tab:red")
    unsure.set_title("disagreement about the next frame, standardized units", loc="left")
    for axes, number in zip(rest, shown, strict=True):
        axes.plot(times, features[:, number], label="came")
        for plan in trace["plans"]:
            at, middle, std = plan["at"], np.array(plan["features"])[:, number], np.array(plan["std"])[:, number]
            ahead = scale * np.arange(at + 1, at + 1 + len(middle))
            axes.plot(
                ahead, middle, color="tab:orange", linestyle="--", label="planned" if plan is trace["plans"][0] else ""
            )
            axes.fill_between(ahead, middle - 2 * std, middle + 2 * std, color="tab:orange", alpha=0.2, linewidth=0)
        names = trace["feature_names"]
        axes.set_title(names[number] if names else f"feature {number}", loc="left")
    rest[0].legend(frameon=False, ncols=2, loc="best")
    rest[-1].set_xlabel("seconds" if trace["seconds_per_frame"] else "frames")
    return figure


def _motion(features: Any) -> Any:
    """Of each feature, how often it goes its own range: [F]"""
    reach = np.ptp(features, axis=0)
    return np.abs(np.diff(features, axis=0)).sum(axis=0) / np.where(reach > 0, reach, np.inf)


def _written(figure: Figure, path: Path) -> str:
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=100, metadata={"Software": None})
    return str(path)
