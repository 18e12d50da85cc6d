"""What an answer of the API server means: whose words they are decides what helps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from optimodel.adapters.kube import failure
from optimodel.errors import ApiError, Forbidden, Invalid, Terminating, TooMany, Transient

FIELD = {
    "reason": "FieldValueInvalid",
    "message": "must be less",
    "field": "spec.template.spec.containers[0].resources",
}


@pytest.mark.parametrize(
    ("status", "message", "details", "kind"),
    [
        (422, 'Job.batch "m" is invalid: spec.template: Invalid value', {"causes": [FIELD]}, Invalid),
        (400, "Job in version v1 cannot be handled as a Job: quantities must match", {}, Invalid),
        (413, "Request entity too large: limit is 3145728", {}, Invalid),
        (403, 'jobs.batch "m" is forbidden: exceeded quota: team', {}, Forbidden),
        (
            422,
            'admission webhook "policy.example" denied the request: spec.template: no',
            {"causes": [FIELD]},
            Forbidden,
        ),
        (400, 'admission webhook "policy.example" denied the request without explanation', {}, Forbidden),
        (
            422,
            "jobs.batch \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            {},
            Forbidden,
        ),
        (403, "no", {"causes": [{"reason": "NamespaceTerminating"}]}, Terminating),
        (500, "etcdserver: request timed out", {}, Transient),
    ],
)
def test_only_what_no_rule_of_the_cluster_refuses_is_bad_content(
    status: int, message: str, details: dict[str, Any], kind: type[ApiError]
) -> None:
    found = failure(status, json.dumps({"message": message, "details": details}).encode(), {})
    assert type(found) is kind and str(found) == message and found.status == status


@pytest.mark.parametrize(("said", "seconds"), [("30", 30.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0), ("", 1.0)])
def test_how_long_to_wait_is_read_in_seconds_alone(said: str, seconds: float) -> None:
    """A proxy may say a date."""
    found = failure(429, b"{}", {"Retry-After": said})
    assert isinstance(found, TooMany) and found.retry_after == seconds
