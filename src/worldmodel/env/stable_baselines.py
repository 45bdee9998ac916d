"""The vector environment as Stable-Baselines3's VecEnv: without it SB3 steps one environment after the other."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from worldmodel.env import WorldModelVectorEnv

try:
    from stable_baselines3.common.vec_env import VecEnv
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"worldmodel.env.stable_baselines needs {missing.name}, which is not installed; pip install 'worldmodel[rl]'",
        name=missing.name,
    ) from None


class WorldModelVecEnv(VecEnv):
    """SAC("MlpPolicy", WorldModelVecEnv("artifacts/worldmodel", "my-logs", num_envs=64)).learn(500_000)

    Arguments are those of WorldModelVectorEnv, but for autoreset_mode.
    """

    actions: NDArray[Any]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.envs = WorldModelVectorEnv(*arguments, **settings, autoreset_mode=AutoresetMode.SAME_STEP)
        super().__init__(self.envs.num_envs, self.envs.single_observation_space, self.envs.single_action_space)

    def reset(self) -> NDArray[Any]:
        seen, _ = self.envs.reset(seed=self._seeds)
        self._reset_seeds()
        return seen

    def step_async(self, actions: NDArray[Any]) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        seen, rewards, terminated, truncated, told = self.envs.step(self.actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(terminated | truncated).tolist():
            cut = bool(truncated[index] and not terminated[index])
            infos[index] = {"terminal_observation": told["final_obs"][index], "TimeLimit.truncated": cut}
        return seen, rewards.astype(np.float32), terminated | truncated, infos

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self.envs, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        return [getattr(self.envs, method_name)(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]
