import numpy as np
import pytest

from cmwjax.methods.teacher import Teacher, update_teacher


@pytest.mark.parametrize("batch_stats", [True, False])
def test_teacher_is_the_weighted_sum_of_what_there_was(batch_stats):
    params, stats = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("f")
    teacher = Teacher({"w": params[0]}, {"mean": stats[0]})
    for w, mean in zip(params[1:], stats[1:], strict=True):
        teacher = update_teacher(
            teacher, {"w": w}, {"mean": mean}, decay=0.9, batch_stats=batch_stats
        )
    shares = np.array([0.9**5] + [0.1 * 0.9 ** (5 - t) for t in range(1, 6)])
    assert np.isclose(shares.sum(), 1)
    np.testing.assert_allclose(teacher.params["w"], shares @ params, rtol=1e-5)
    want = shares @ stats if batch_stats else stats[0]
    np.testing.assert_allclose(teacher.model_state["mean"], want, rtol=1e-5)
