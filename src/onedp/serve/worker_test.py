"""Batches of waiting requests; the gate of the fake policy makes the order certain."""

from __future__ import annotations

import numpy as np
import pytest

from onedp.errors import ServeError
from onedp.serve.fake_policy_test import Continuing, FakePolicy, observation
from onedp.serve.worker import PolicyWorker
from onedp.types import Continuation


def submit(worker, value, rows=1):
    return worker.submit(observation(value, rows=rows), np.zeros((rows, 1, 6, 2), dtype=np.float32))


def test_what_waits_is_taken_in_one_pass_and_given_back_to_its_sender():
    policy = FakePolicy()
    worker = PolicyWorker("p", policy, max_rows=4)
    answers = [submit(worker, value, rows) for value, rows in ((1.0, 1), (2.0, 2), (3.0, 2), (4.0, 1), (5.0, 1))]
    worker.close(timeout_s=0)
    worker.start()  # everything waits already
    actions = [answer.result(10) for answer in answers]
    assert [answer.actions[:, 0, 0].tolist() for answer in actions] == [[1], [2, 2], [3, 3], [4], [5]]
    assert policy.batches == [3, 4]
    assert [answer.batch_rows for answer in actions] == [3, 3, 4, 4, 4]


def test_chunks_that_go_on_from_others_have_passes_of_their_own():
    policy = Continuing()
    worker = PolicyWorker("p", policy, max_rows=4)

    def going_on(value, weight):
        before = Continuation(np.zeros((1, 5, 2), np.float32), np.full((1, 5), weight, np.float32))
        return worker.submit(observation(value, rows=1), np.zeros((1, 1, 6, 2), np.float32), before)

    answers = [submit(worker, 1.0), going_on(2.0, 0.5), going_on(3.0, 1.0), submit(worker, 4.0), submit(worker, 5.0)]
    worker.close(timeout_s=0)
    worker.start()
    assert [answer.result(10).actions[0, 0, 0] for answer in answers] == [1, 502, 1003, 4, 5]
    assert policy.batches == [1, 2, 2]


def test_a_request_that_breaks_the_policy_breaks_only_itself():
    policy = FakePolicy()
    worker = PolicyWorker("p", policy, max_rows=4)
    good, bad, good_too = submit(worker, 1.0), submit(worker, 13.0), submit(worker, 2.0)
    worker.start()
    assert good.result(10).actions[0, 0, 0] == 1
    assert good_too.result(10).actions[0, 0, 0] == 2
    with pytest.raises(ServeError, match="The policy 'p' failed: ZeroDivisionError: thirteen"):
        bad.result(10)
    worker.close(timeout_s=10)


def test_a_cancelled_request_costs_no_pass():
    policy = FakePolicy()
    worker = PolicyWorker("p", policy, max_rows=1)
    first, second = submit(worker, 1.0), submit(worker, 2.0)
    assert second.cancel()
    worker.start()
    first.result(10)
    worker.close(timeout_s=10)
    assert policy.batches == [1]


@pytest.mark.parametrize("actions", [np.zeros((1, 4, 2)), np.full((1, 5, 2), np.nan)])
def test_actions_of_the_wrong_shape_or_not_finite_never_leave(monkeypatch, actions):
    policy = FakePolicy()
    monkeypatch.setattr(policy, "infer", lambda obs, noise: actions.astype(np.float32))
    worker = PolicyWorker("p", policy, max_rows=1)
    worker.start()
    with pytest.raises(ServeError, match=r"expected \(1, 5, 2\), all finite"):
        submit(worker, 1.0).result(10)
    worker.close(timeout_s=10)
