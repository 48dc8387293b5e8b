import json
import os

from qasir.app.children import ended, environment_of, started

SECRETS = {"AWS_SECRET_ACCESS_KEY": "a", "GOOGLE_APPLICATION_CREDENTIALS": "b", "HF_TOKEN": "c", "QASIR_TOKEN": "d"}


def test_what_decodes_files_of_this_machine_knows_no_secret():
    own = {**SECRETS, "PATH": "/bin", "LC_ALL": "C", "PYTHONHASHSEED": "0"}
    assert environment_of(own, of_stores=False) == {"PATH": "/bin", "LC_ALL": "C", "PYTHONHASHSEED": "0"}
    of_stores = environment_of(own, of_stores=True)
    assert of_stores == {name: value for name, value in own.items() if name != "QASIR_TOKEN"}


def test_a_process_has_that_environment_and_the_library(tmp_path, monkeypatch):
    (tmp_path / "tells_its_environment.py").write_text(
        "import json, os, qasir\ndef main(): print(json.dumps(dict(os.environ)))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    child = started("tells_its_environment", of_stores=False)
    told = json.loads(child.stdout.read())
    ended(child)
    assert not set(SECRETS) & set(told)
    assert told["PATH"] == os.environ["PATH"]
