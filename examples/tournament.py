"""One owner, three trainers, one scoreboard: training on images that nobody but their owner can see.

    python examples/tournament.py

All parties run on this machine, with a server of their own in a folder. The owner publishes encrypted images with their
labels; trainers, who have no key, submit recipes; the server trains each on ciphertexts and classifies the owner's
hold-out with it; the owner recomputes, decrypts, and releases one number a submission.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cipherlens as cl
from cipherlens.client.publishing import Publication
from cipherlens.data import demo_cats
from cipherlens.learning.recipes import Recipe

IMAGES = 240
"""Training images of the 800 that come with the package: enough for a lesson, and quick."""

TRAINERS = {
    "ada": [Recipe("linear_means")],
    "ben": [Recipe("ridge", steps=1, ridge=0.3)],
    "eve": [Recipe("ridge", steps=9, ridge=0.2), Recipe("fisher", steps=3, ridge=0.2)],  # the first is outside
}


@dataclass(frozen=True)
class Provider:
    """Who runs the server, and gives out tokens."""

    url: str
    folder: Path

    def token(self, tenant: str, *scope: str) -> str:
        """What `cipherlens token create` prints."""
        return str(command("token", "create", "--data", str(self.folder), "--tenant", tenant, *scope)["token"])


def command(*arguments: str) -> dict[str, object]:
    """One command of Cipherlens; its JSON object."""
    run = [sys.executable, "-m", "cipherlens.cli.main", *arguments, "--json"]
    answer: dict[str, object] = json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout)
    return answer


@contextlib.contextmanager
def provider(folder: Path) -> Iterator[Provider]:
    """`cipherlens serve` on a free port, until the block is left."""
    serve = [sys.executable, "-m", "cipherlens.cli.main", "serve", "--data", str(folder), "--port", "0", "--json"]
    with (folder.parent / "server.log").open("w") as log:
        process = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            yield Provider(json.loads(process.stdout.readline())["url"], folder)
        finally:
            process.terminate()
            process.communicate()


def compete(provider: Provider, name: str, publication: Publication, recipes: Sequence[Recipe]) -> None:
    """A trainer: submits, waits, and keeps an encrypted model that it can neither read nor use without the owner."""
    token = provider.token(name, "--scope", "trainer", "--publication", publication.id)
    with cl.connect(provider.url, token) as server:
        for recipe in recipes:
            try:
                server.wait_submission(server.submit(publication.id, recipe))
                print(f"{name} submitted {recipe}")
            except cl.errors.ServerError as refused:
                print(f"{name}: {refused}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="One owner, three trainers, one scoreboard.")
    parser.add_argument("--folder", type=Path, default=Path("tournament-example"), help="for the server and its log")
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)

    training, new = demo_cats()
    images, labels = training.images[:IMAGES], list(training.labels[:IMAGES])
    keys = cl.owner.Keys.create(cl.plan(images, labels, features="hog", dimension=32, steps=3))
    data, holdout = keys.encrypt(images, labels), keys.encrypt(new.images)  # the hold-out without its labels
    truth = np.array([keys.task.notes.classes.index(label) for label in new.labels])

    with provider(folder / "server") as there, cl.connect(there.url, there.token("clinic")) as server:
        publication = server.publish(data, keys.evaluation, holdout, trainers=list(TRAINERS), submissions_each=2)
        print(f"published {publication.images} images; allowed: {publication.envelope}")
        for name, recipes in TRAINERS.items():
            compete(there, name, publication, recipes)
        for submission in server.submissions(publication.id):
            recomputed = server.recompute(submission, data, keys.evaluation, holdout)  # raises if a byte differs
            answers = keys.decrypt(recomputed.reply, recomputed.recipe)
            server.release(recomputed, float(np.mean(answers.numbers == truth)))
        print(f"\n{'':3}{'trainer':10}{'recipe':32}{'score':>6}")
        for row in server.scoreboard(publication.id):
            print(f"{row.number:<3}{row.trainer:10}{row.recipe!s:32}{row.score:>5}%")


if __name__ == "__main__":
    main()
