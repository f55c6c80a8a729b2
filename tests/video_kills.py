"""Kills the process that restores a video at random moments, runs it again until the video is done, and compares it with one in one go."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from video_files import read_video

from gpen_core.video.parts import folder_of

WORKER = Path(__file__).with_name("video_worker.py")


@dataclass
class Figures:
    """kills: of processes at work or while they started. resumed: how many of those that came after went on in the middle. videos: how
    many were finished. lost, doubled: frames. broken: frames with other pixels or times, tracks with other packets, files left behind."""

    kills: int = 0
    resumed: int = 0
    videos: int = 0
    lost: int = 0
    doubled: int = 0
    broken: int = 0


def make_source(path: Path, frames: int) -> Path:
    """Frames of which no two are alike, at times of a varying rate, with sound that never repeats."""
    rng = np.random.default_rng(1)
    noise = (40 + 120 * rng.random((200 + frames, 96, 3))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"g": "30", "bf": "2", "crf": "10"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=48000, layout="mono")
        moment, packets = 0, []
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(noise[number : number + 64]), "rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            moment += 30 + number % 7 * 5
            packets += video.encode(frame)
        packets += video.encode(None)
        seconds = np.arange(48 * moment) / 48000
        wave = (np.sin(600 * seconds * (1 + seconds)) * 8000).astype(np.int16)[None]
        samples = av.AudioFrame.from_ndarray(wave, "s16", "mono")
        samples.rate, samples.pts = 48000, 0
        packets += [*sound.encode(samples), *sound.encode(None)]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def killed_until_done(
    folder: Path, frames: int, kills: int, *, segment: int = 10, seconds: float = 0.005, longest: float = 1.0, seed: int = 0
) -> Figures:
    """Restores videos in `folder`, one after the other, until that many processes were killed and the last video is done. longest: seconds
    after its first frame that a process is left."""
    chance, figures = random.Random(seed), Figures()
    source, whole = make_source(folder / "in.mp4", frames), folder / "whole.mp4"
    command = [sys.executable, str(WORKER), str(source)]
    more = [str(segment), str(seconds)]
    subprocess.run([*command, str(whole), *more], check=True, stdout=subprocess.DEVNULL)
    while figures.kills < kills:
        (folder / "out").mkdir(exist_ok=True)
        target = folder / "out" / f"{figures.videos}.mp4"
        while not target.exists():
            figures.resumed += figures.kills > 0 and (folder_of(target) / "000000.json").exists()
            process = subprocess.Popen([*command, str(target), *more], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8")
            if figures.kills < kills:
                if chance.random() < 0.85:
                    process.stdout.readline()
                    time.sleep(chance.uniform(0, longest))
                else:
                    time.sleep(chance.uniform(0, 2))
                process.kill()
            code = process.wait()
            process.stdout.close()
            figures.kills += code < 0 or (sys.platform == "win32" and code == 1)
            if code > 0 and sys.platform != "win32":
                raise RuntimeError(f"the worker ended with {code}")
        check(figures, whole, target)
        figures.videos += 1
    return figures


def check(figures: Figures, whole: Path, target: Path) -> None:
    """Counts what is missing, what is there twice, and what is different. A kill just after the end may leave the folder: the next run
    with that target removes it."""
    one, other = read_video(whole), read_video(target)
    figures.lost += max(0, len(one.times) - len(other.times))
    figures.doubled += max(0, len(other.times) - len(one.times))
    figures.broken += sum(not np.array_equal(a, b) for a, b in zip(one.pixels, other.pixels, strict=False))
    figures.broken += sum(a != b for a, b in zip(one.times, other.times, strict=False))
    figures.broken += one.streams != other.streams
    left = [path for path in target.parent.iterdir() if path != target and path.suffix != ".mp4"]
    figures.broken += any(not (path / "done").exists() for path in left)
