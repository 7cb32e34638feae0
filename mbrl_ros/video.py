"""Videos of episodes with captions: an animated GIF, or H.264 in an MP4."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mbrl_ros.errors import ConfigError

_MARGIN, _TEXT_SIZE = 8, 15
#: Constant rate factor of x264 without visible loss.
_QUALITY = '20'


def require_video(path: Path) -> None:
    """Check the suffix of a video's path.

    Raises:
        ConfigError: No such kind of video can be written.
    """
    if path.suffix.lower() not in _KINDS:
        raise ConfigError(f'{path}: a video needs the suffix {" or ".join(_KINDS)}')


def frame_s(path: Path, step_s: float) -> float:
    """Time from one frame to the next, a whole number of steps: by the suffix of the path and the duration of a step."""
    return max(round(1.0 / (_KINDS[path.suffix.lower()].frames_hz * step_s)), 1) * step_s


class EpisodeCamera:
    """Takes the pictures of one episode.

    Args:
        picture: Renders the scene for a width and a height, shape (height, width, 3), uint8.
        path: Path of the video; its suffix decides the size of pictures, and how many there are in a second.
        step_s: Duration of a step.
        title: Beginning of every caption.

    Attributes:
        pictures: Pictures so far.
    """

    def __init__(self, picture: Callable[[int, int], np.ndarray], path: Path, step_s: float, title: str) -> None:
        self.pictures: list[np.ndarray] = []
        self._picture, self._title, self._kind = picture, title, _KINDS[path.suffix.lower()]
        self._step, self._step_s, self._steps_per_frame = 0, step_s, round(frame_s(path, step_s) / step_s)

    def on_step(self) -> None:
        """Count a step that is about to be made, and take a picture if one is due."""
        if self._step % self._steps_per_frame == 0:
            self.take('')
        self._step += 1

    def take(self, comment: str) -> None:
        """Take a picture, with the time since the episode began and a comment, if there is one."""
        caption = f'{self._title}, {self._step * self._step_s:.2f} s' + (comment and f', {comment}')
        self.pictures.append(_captioned(self._picture(*self._kind.size), caption))


def write_video(path: Path, frames: Iterator[np.ndarray], period_s: float) -> None:
    """Write frames as the kind of video that the suffix names.

    Args:
        path: Path of the video; a missing folder is made.
        frames: At least one picture of `EpisodeCamera`.
        period_s: Time from one frame to the next.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _KINDS[path.suffix.lower()].write(path, frames, period_s)


def _captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    """Copy of a picture with a line of text in its upper left corner."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    draw, corner, font = ImageDraw.Draw(image, 'RGBA'), (_MARGIN, _MARGIN), ImageFont.load_default(_TEXT_SIZE)
    left, top, right, bottom = draw.textbbox(corner, caption, font)
    draw.rectangle((left - _MARGIN / 2, top - _MARGIN / 2, right + _MARGIN / 2, bottom + _MARGIN / 2), fill=(0, 0, 0, 150))
    draw.text(corner, caption, fill=(255, 255, 255), font=font)
    return np.asarray(image)


def _write_gif(path: Path, frames: Iterator[np.ndarray], period_s: float) -> None:
    from PIL import Image

    images = map(Image.fromarray, frames)
    next(images).save(path, format='GIF', save_all=True, append_images=images, duration=round(1e3 * period_s), loop=0)


def _write_mp4(path: Path, frames: Iterator[np.ndarray], period_s: float) -> None:
    import av

    width, height = _KINDS['.mp4'].size
    rate = Fraction(1.0 / period_s).limit_denominator(1000)
    with av.open(str(path), 'w', format='mp4') as container:
        stream = container.add_stream('libx264', rate=rate, width=width, height=height, pix_fmt='yuv420p',
                                      options={'crf': _QUALITY})
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())


class _Kind(NamedTuple):
    size: tuple[int, int]  #: width and height
    frames_hz: float  #: frames in a second, as nearly as whole steps give
    write: Callable[[Path, Iterator[np.ndarray], float], None]  #: takes path, frames and their period in seconds


#: Kinds by suffix. A GIF gets few frames: it compresses little, and viewers slow fast ones down.
_KINDS = {'.gif': _Kind((400, 300), 10.0, _write_gif), '.mp4': _Kind((640, 480), 20.0, _write_mp4)}


class EpisodeVideo:
    """Films the first episodes of a world and writes one video of them.

    Args:
        picture: Renders the scene, see `EpisodeCamera`.
        path: Path of the video; a missing folder is made.
        step_s: Duration of a step, so that the video plays in real time.
        episodes: Number of episodes to film.

    Attributes:
        path: Path of the video.
    """

    def __init__(self, picture: Callable[[int, int], np.ndarray], path: Path, step_s: float, episodes: int) -> None:
        self.path = path
        self._picture, self._step_s, self._episodes = picture, step_s, episodes
        self._cameras: list[EpisodeCamera] = []
        self._is_over = False

    def begin(self) -> None:
        """Begin an episode; the one after the last filmed one writes the video and raises like `end`."""
        if len(self._cameras) == self._episodes:
            self.end()
        elif not self._is_over:
            title = f'episode {len(self._cameras) + 1}'
            self._cameras.append(EpisodeCamera(self._picture, self.path, self._step_s, title))

    def on_step(self) -> None:
        """Count a step of an episode, if one has begun."""
        if self._cameras and not self._is_over:
            self._cameras[-1].on_step()

    def end(self) -> None:
        """Write the video, unless it was written or has no pictures.

        Raises:
            OSError: The file cannot be written.
        """
        pictures = [picture for camera in self._cameras for picture in camera.pictures]
        if pictures and not self._is_over:
            self._is_over = True
            write_video(self.path, iter(pictures), frame_s(self.path, self._step_s))
