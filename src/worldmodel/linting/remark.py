"""A remark: something allowed and probably wrong, at the first place where it stands."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remark:
    kind: str
    message: str  # what was found, what it means, what to do
    count: int = 1
    file: str = ""
    line: int = 0  # in the file, from 1; 0 where it is about more than a line
    episode: str = ""

    def __str__(self) -> str:
        place = ":".join([self.file, *([str(self.line)] if self.line else [])])
        where = [part for part in (place, f"episode {self.episode}" if self.episode else "") if part]
        return f"{', '.join(where) or 'logs'}: {self.kind}: {self.message}"
