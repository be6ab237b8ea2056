"""Two accounts on one machine: the one that drillyard uses, and that of gcloud or az."""

import json

import pytest

from drillyard.system import operating_system
from drillyard_backends import sign_ins

ROBOT = "robot@p.iam.gserviceaccount.com"
SECRET = {"AZURE_CLIENT_ID": "app-1", "AZURE_TENANT_ID": "t-1", "AZURE_CLIENT_SECRET": "hush"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in (
        "CLOUDSDK_CONFIG",
        "CLOUDSDK_CORE_ACCOUNT",
        "CLOUDSDK_ACTIVE_CONFIG_NAME",
        "AZURE_CONFIG_DIR",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "GOOGLE_APPLICATION_CREDENTIALS",
        *SECRET,
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def gcloud(home, account, name="default"):
    folder = home / ".config" / "gcloud"
    (folder / "configurations").mkdir(parents=True, exist_ok=True)
    (folder / "active_config").write_text(f"{name}\n")
    (folder / "configurations" / f"config_{name}").write_text(f"[core]\naccount = {account}\n")


def az(home, name, default=True):
    (home / ".azure").mkdir(exist_ok=True)
    subscription = {"isDefault": default, "user": {"name": name, "type": "user"}}
    profile = json.dumps({"subscriptions": [subscription]})
    (home / ".azure" / "azureProfile.json").write_text(profile, encoding="utf-8-sig")


@pytest.mark.parametrize("name", ["default", "lab"])
def test_gclouds_account_beside_a_key_file_is_named_with_its_file(home, monkeypatch, name):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/keys/robot.json")
    gcloud(home, "ann@example.org", name)
    (finding,) = sign_ins.of_google(f"serviceAccount:{ROBOT}")
    for word in (ROBOT, "/keys/robot.json", "ann@example.org", f"config_{name}"):
        assert word in finding.message
    assert "unset GOOGLE_APPLICATION_CREDENTIALS" in finding.fix


def test_on_windows_gclouds_folder_is_below_appdata(home, monkeypatch):
    monkeypatch.setattr(operating_system, "POSIX", False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/keys/robot.json")
    gcloud(home, "ann@example.org")
    roaming = home / "AppData" / "Roaming"
    roaming.mkdir(parents=True)
    (home / ".config" / "gcloud").rename(roaming / "gcloud")
    assert not list(sign_ins.of_google(f"serviceAccount:{ROBOT}"))
    monkeypatch.setenv("APPDATA", str(roaming))
    (finding,) = sign_ins.of_google(f"serviceAccount:{ROBOT}")
    assert str(roaming / "gcloud") in finding.message


def test_azs_account_beside_variables_is_named_with_its_file(home, monkeypatch):
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    az(home, "ann@example.org")
    (finding,) = sign_ins.of_azure()
    for word in ("app-1", "t-1", "ann@example.org", "azureProfile.json"):
        assert word in finding.message
    assert "unset AZURE_CLIENT_ID" in finding.fix
    assert "hush" not in finding.message + finding.fix


def test_one_account_or_none_is_no_warning(home, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/keys/robot.json")
    assert not list(sign_ins.of_google(f"serviceAccount:{ROBOT}"))
    gcloud(home, ROBOT)
    assert not list(sign_ins.of_google(f"serviceAccount:{ROBOT}"))
    gcloud(home, "ann@example.org")
    assert not list(sign_ins.of_google('user:"$(gcloud config get account)"'))
    az(home, "ann@example.org")
    assert not list(sign_ins.of_azure()), "drillyard uses az itself"
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    az(home, "app-1")
    assert not list(sign_ins.of_azure())
    az(home, "ann@example.org", default=False)
    assert not list(sign_ins.of_azure())


@pytest.mark.parametrize("text", ["", "[", '{"subscriptions": [null]}', "[core\n"])
def test_broken_files_are_no_error(home, monkeypatch, text):
    gcloud(home, "x")
    az(home, "x")
    for path in home.rglob("*.json"):
        path.write_text(text)
    for path in home.rglob("config_*"):
        path.write_text(text)
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/k.json")
    assert not [*sign_ins.of_google(f"serviceAccount:{ROBOT}"), *sign_ins.of_azure()]
