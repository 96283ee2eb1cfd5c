"""What notebooks show: sizes and kinds, never data; the owner's own answers as a table."""

from __future__ import annotations

import numpy as np

import cipherlens as cl


def test_objects_show_themselves_without_data() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 120)
    rows = rng.normal(size=(120, 3)) + labels[:, None]
    task = cl.plan(rows, ["<b>" if label else "a&b" for label in labels], features="table", learner="linear_means")
    keys = cl.owner.Keys.create(task)
    data = keys.encrypt(rows, ["<b>" if label else "a&b" for label in labels])
    model = cl.server.train(data, keys.evaluation)
    reply = cl.server.classify(model, keys.encrypt(rows[:30]), keys.evaluation)
    for thing in (task, keys, keys.public, keys.secrets, keys.evaluation, data, model, reply):
        html = thing._repr_html_()
        assert html.startswith("<pre>") and html.endswith("</pre>")
        assert "array" not in html and "<b>" not in html
    answers = keys.decrypt(reply)._repr_html_()
    assert answers.count("<tr>") == 21 and "&lt;b&gt;" in answers and "a&amp;b" in answers and "<b>" not in answers
