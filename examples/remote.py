"""An owner with a server elsewhere: encrypt here, train and classify there, decrypt here.

    cipherlens serve --data server &
    cipherlens token create --data server --tenant me > token
    python examples/remote.py http://127.0.0.1:8750 token

Stop it at any moment after "sent" and run it again with the same folder of keys: the training goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import cipherlens as cl
from cipherlens.data import demo_cats
from cipherlens.planning.task import Task

IMAGES = 400
"""Of the 800 that come with the package: enough for a lesson, and quick."""


def prepare(folder: Path) -> cl.owner.Keys:
    """Plan, make keys and encrypt once; later runs find everything in the folder."""
    if not (folder / "query.cl").exists():
        training, new = demo_cats()
        folder.mkdir(parents=True, exist_ok=True)
        task = cl.plan(training.images[:IMAGES], list(training.labels[:IMAGES]), features="hog", dimension=64)
        keys = cl.owner.Keys.create(task)
        task.save(folder / "task.cl")
        keys.save(folder / "KEYS", None)  # a passphrase here for anything real
        keys.encrypt(training.images[:IMAGES], list(training.labels[:IMAGES])).save(folder / "train.cl")
        keys.encrypt(new.images).save(folder / "query.cl")
    return cl.owner.Keys.load(Task.load(folder / "task.cl"), folder / "KEYS")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="An owner with a server elsewhere.")
    parser.add_argument("url", help="of the server")
    parser.add_argument("token_file", type=Path, help="a file that holds the token and nothing else")
    parser.add_argument("--folder", type=Path, default=Path("remote-example"), help="for keys and ciphertexts")
    chosen = parser.parse_args()
    keys = prepare(chosen.folder)
    evaluation = chosen.folder / "KEYS" / "evaluation.cl"  # the secret key beside it is never sent

    with cl.connect(chosen.url, chosen.token_file.read_text().strip()) as server:
        job = server.start_fit(chosen.folder / "train.cl", evaluation)
        print(f"sent; the server's job is {job.id}")
        for seen in server.watch(job):
            print(f"  {seen.stage}, {seen.progress:.0%}")
        model = server.wait(job)
        reply = server.predict(model, chosen.folder / "query.cl", evaluation)

    # The connection is closed before anything is decrypted: what comes out is nobody's business but the owner's.
    answers = keys.decrypt(reply)
    truth = np.array(demo_cats()[1].labels)
    print(f"{np.mean(np.array(answers.labels) == truth):.0%} of {len(truth)} answers are right")


if __name__ == "__main__":
    main()
