"""Which pods a claim's shares belong to, and that the kernel's wall is asked for in time."""

from gpuslice_plugin.pods import read

POD = {
    "metadata": {"namespace": "team", "name": "one", "uid": "u1"},
    "spec": {
        "containers": [{"name": "main"}],
        "resourceClaims": [
            {"name": "a", "resourceClaimName": "named"},
            {"name": "b", "resourceClaimTemplateName": "template"},
        ],
    },
    "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "one-b-x7"}]},
}


def test_a_pod_names_its_claims_in_its_spec_and_those_from_templates_in_its_status() -> None:
    assert read(POD).claims == ("named", "one-b-x7")
    assert read({"metadata": POD["metadata"], "spec": {"containers": []}}).claims == ()
