"""Users and organisations of the command line, and its errors."""

import subprocess
import sys

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from localhub import LocalHub
from localhub.__main__ import main
from localhub.users import Organisation, User, accounts_of, parse_user


def test_several_people_share_a_hub(start_server, tmp_path, monkeypatch):
    (tmp_path / "bob:token").write_text("hf_bob\n")
    monkeypatch.setenv("LOCALHUB_USERS", "carol:hf_carol ci:hf_ci:fine-grained=team/model,datasets/alice/data")
    options = ["--user", "alice:hf_alice", "--user", "alice:hf_alice_reads:read", "--user", f"bob:@{tmp_path}/bob:token:write"]
    options += ["--org", "team:alice,bob", "--org", "everyone", "--token", "hf_root"]
    with start_server(tmp_path / "hub", *options) as (process, url):
        alice, reader, bob, carol, ci, root = (
            HfApi(url, token=f"hf_{name}") for name in ("alice", "alice_reads", "bob", "carol", "ci", "root")
        )
        me = bob.whoami()
        assert (me["name"], [org["name"] for org in me["orgs"]]) == ("bob", ["everyone", "team"])
        assert [org["name"] for org in carol.whoami()["orgs"]] == ["everyone"]
        assert reader.whoami()["name"] == "alice"
        assert reader.whoami()["auth"]["accessToken"]["role"] == "read"

        alice.create_repo("team/model", private=True)
        assert bob.model_info("team/model").private
        assert reader.model_info("team/model").private
        assert root.model_info("team/model").private
        for nobody in (carol, HfApi(url, token=False)):
            with pytest.raises(RepositoryNotFoundError):
                nobody.model_info("team/model")
        ci.upload_file(repo_id="team/model", path_in_repo="a", path_or_fileobj=b"a")
        for api, name in ((reader, "alice/x"), (carol, "team/x"), (ci, "ci/x"), (alice, "bob/x")):
            with pytest.raises(HfHubHTTPError) as refused:
                api.create_repo(name)
            assert refused.value.response.status_code == 403
        carol.create_repo("everyone/x")
        usage = "".join(process.stdout.readline() for _ in range(3))
    assert "--token, carol (write), ci (fineGrained), alice (write), alice (read), bob (write)" in usage
    assert "hf_" not in usage


def test_forms_of_a_user():
    assert parse_user("alice:t.o~k-e_n=") == User("alice", "t.o~k-e_n=")
    assert parse_user("alice:x:read") == User("alice", "x", "read")
    assert parse_user("ci:x:fine-grained") == User("ci", "x", "fineGrained")
    assert parse_user("ci:x:fine-grained=me/a,spaces/me/b").repos == {"me/a", "spaces/me/b"}


def test_members_are_named_in_any_case():
    (account,) = accounts_of([User("Alice", "x")], [Organisation("team", ("ALICE",))]).values()
    assert account.owns == {"Alice", "team"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "99999"], "argument --port: expected a number from 0 to 65535, not '99999'"),
        (["--port", "-1"], "argument --port"),
        (["--port", "9" * 5000], "argument --port"),
        (["--port", "²"], "argument --port"),
        (["--origin", "localhost:5173"], "argument --origin: expected the scheme, host and port of a site"),
        (["--origin", "http://localhost:5173/app"], "argument --origin: expected the scheme, host and port of a site"),
        (["--origin", "*"], "argument --origin"),
        (["--user", "alice"], "alice: missing token"),
        (["--user", "alice:read"], "alice: missing token"),
        (["--user", "alice:secret:admin"], "alice: invalid role"),
        (["--user", "alice:secret:read=me/model"], "alice: invalid role"),
        (["--user", "alice:sec ret"], "alice: invalid token"),
        (["--user", "alice:hf_jwt_secret"], "alice: invalid token"),
        (["--user", "alice:secret:fine-grained=model"], "alice: Invalid repo id 'model'"),
        (["--user", "../x:secret"], "'../x' is not a valid name"),
        (["--user", "api:secret"], "'api' is not a valid name"),
        (["--user", "alice:@/none/of/them"], "/none/of/them, can't be read: No such file or directory"),
        (["--user", "alice:secret", "--user", "bob:secret"], "bob has the same token as alice"),
        (["--user", "alice:secret", "--token", "secret"], "--token is also the token of alice"),
        (["--user", "alice:secret", "--org", "team:bob"], "team: bob is not a user"),
        (["--user", "alice:secret", "--user", "Alice:secret2"], "Alice and alice are one name: case makes no difference"),
        (["--user", "alice:secret", "--org", "Alice"], "Alice is the name of two namespaces"),
        (["--user", "alice:secret", "--org", "team:"], "team: no members after the colon"),
        (["--org", "team"], "team has no members"),
    ],
)
def test_an_invalid_option_is_a_message_without_the_token(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["--dir", str(tmp_path / "hub"), *options])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err.splitlines()[-1]
    assert "secret" not in printed.err
    assert printed.out == ""
    assert not (tmp_path / "hub").exists()


def test_an_invalid_user_of_the_environment_is_a_message(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINE_USERS", "alice:secret:admin")
    with pytest.raises(SystemExit) as ended:
        main(["--dir", str(tmp_path)], "mine", token_variable="MINE_TOKEN")
    assert ended.value.code == 2
    assert "MINE_USERS: alice: invalid role" in capsys.readouterr().err


def test_a_port_in_use_is_a_message(tmp_path, capsys):
    with LocalHub(tmp_path) as hub:
        port = hub.url.rpartition(":")[2]
        assert main(["--dir", str(tmp_path), "--port", port]) == 2
    assert (
        capsys.readouterr().err == f"localhub: --port {port} can't be used: it is in use. Without --port, it picks a free one\n"
    )


def test_a_folder_that_can_not_be_written_is_a_message(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--dir", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err == f"localhub: --dir {tmp_path / 'file'} can't be used: it is not a folder\n"


def test_a_folder_of_another_user_is_a_message(tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir(mode=0o555)
    # root may write everywhere. Another user may not open the folders above this one, so the process enters it first
    code = """
import os, sys
from localhub.__main__ import main
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
sys.exit(main(["--dir", "."]))
"""
    ended = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    (message,) = ended.stderr.splitlines()
    assert message.startswith("localhub: --dir . can't be used: ")
    assert "Permission denied" in message


def test_help_says_that_other_programs_see_the_tokens_of_the_command_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Other programs see tokens of the command line in the list of processes" in text
    assert "LOCALHUB_TOKEN, LOCALHUB_USERS and NAME:@FILE keep them out of it" in text
