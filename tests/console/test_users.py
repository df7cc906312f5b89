"""Users and invitations: who may sign in, and that somebody always can."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from conveyor_console.auth.models import Role
from conveyor_console.console import Console
from tests.console.conftest import PASSWORD, Api, TestClock, signed_in

_SIGN_IN = {"email": "eve@example.com", "password": PASSWORD}
EVE = {"email": "eve@example.com", "password": PASSWORD, "name": "Eve", "role": "operator"}


async def changed(
    api: Api, user_id: str, body: dict[str, Any], status: int = 200, tag: str = "*"
) -> Any:
    return await api.call(
        "PATCH", f"/users/{user_id}", status, json=body, headers={"If-Match": tag}
    )


async def test_a_user_is_made_and_can_sign_in(admin: Api, nobody: Api) -> None:
    made = await admin.call("POST", "/users", 201, json=EVE)
    assert (made["email"], made["name"], made["role"]) == ("eve@example.com", "Eve", "operator")
    assert "password" not in str(made)
    await nobody.call("POST", "/auth/login", json={k: EVE[k] for k in ("email", "password")})
    problem = await admin.call("POST", "/users", 409, json={**EVE, "email": "EVE@example.com"})
    assert "has an account already" in problem["detail"]


async def test_what_is_no_user_is_refused(admin: Api, subtests: pytest.Subtests) -> None:
    for body in [
        {**EVE, "email": "nobody"},
        {**EVE, "password": "short"},
        {**EVE, "password": "password1234"},
        {**EVE, "role": "owner"},
        {**EVE, "name": "Eve\r\nSet-Cookie: a=b"},
        {**EVE, "name": "Eve\0"},
        {**EVE, "name": "x" * 201},
        {**EVE, "id": "0192f0c1-0000-7000-8000-000000000000"},
        {**EVE, "disabled_at": None},
        {**EVE, "password_hash": "x"},
        {**EVE, "version": 9},
    ]:
        with subtests.test(body=body):
            await admin.call("POST", "/users", 422, json=body)
            assert len((await admin.call("GET", "/users"))["items"]) == len(Role)


@pytest.mark.parametrize(
    "name", ["Zoë", "' OR 1=1 --", "<script>alert(1)</script>", "\U0001f600\u202eab", "%s{0}"]
)
async def test_names_come_back_as_they_were(admin: Api, name: str) -> None:
    made = await admin.call("POST", "/users", 201, json={**EVE, "name": name})
    assert (await admin.call("GET", f"/users/{made['id']}"))["name"] == name


async def test_the_list_is_filtered_and_comes_in_pages(admin: Api, users: dict[Role, str]) -> None:
    for number in range(4):
        body = {**EVE, "email": f"eve{number}@example.com", "name": f"Eve_{number}"}
        await admin.call("POST", "/users", 201, json=body)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = await admin.call("GET", "/users", params={"limit": 3, **more})
        seen += [one["email"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 7
    assert seen[0] == "eve3@example.com"

    async def emails(**params: Any) -> list[str]:
        page = await admin.call("GET", "/users", params=params)
        return [one["email"] for one in page["items"]]

    assert await emails(role="viewer") == ["viewer@example.com"]
    assert await emails(q="EVE_2") == ["eve2@example.com"]
    assert await emails(q="eve%2") == []
    await changed(admin, users[Role.VIEWER], {"disabled": True})
    assert await emails(disabled="true") == ["viewer@example.com"]
    assert "viewer@example.com" not in await emails(disabled="false")


async def test_a_cursor_of_nobody_is_refused(admin: Api, subtests: pytest.Subtests) -> None:
    for cursor in ["x", "W10", "WzFd", "WyJcdTAwMDAiXQ", "ÿ"]:
        with subtests.test(cursor=cursor):
            for path in ("/users", "/invitations", "/api-keys", "/audit"):
                await admin.call("GET", path, 422, params={"cursor": cursor})


async def test_an_id_of_nobody_is_refused(admin: Api, subtests: pytest.Subtests) -> None:
    for user_id in ["1", "%00", "..%2f", "0192F0C1-0000-7000-8000-000000000000"]:
        with subtests.test(user_id=user_id):
            answer = await admin.http.get(f"/api/v1/users/{user_id}")
            assert answer.status_code in {404, 422}


async def test_edits_do_not_overwrite_each_other(admin: Api, users: dict[Role, str]) -> None:
    path = f"/api/v1/users/{users[Role.VIEWER]}"
    tag = (await admin.http.get(path)).headers["etag"]
    body = {"name": "Vera"}
    assert (await admin.http.patch(path, json=body)).status_code == 428
    done = await admin.http.patch(path, json=body, headers={"If-Match": tag})
    assert done.status_code == 200
    assert done.json()["name"] == "Vera"
    assert done.headers["etag"] != tag
    stale = await admin.http.patch(path, json={"name": "V"}, headers={"If-Match": tag})
    assert stale.status_code == 412
    assert (await admin.http.delete(path, headers={"If-Match": tag})).status_code == 412
    again = await admin.http.patch(path, json=body, headers={"If-Match": done.headers["etag"]})
    assert again.status_code == 200


async def test_a_sign_in_is_no_edit(admin: Api, app: FastAPI, users: dict[Role, str]) -> None:
    path = f"/api/v1/users/{users[Role.VIEWER]}"
    tag = (await admin.http.get(path)).headers["etag"]
    await asyncio.gather(*(signed_in(app, Role.VIEWER) for _ in range(8)))
    seen = await admin.http.get(path)
    assert seen.headers["etag"] == tag
    assert seen.json()["last_login_at"] is not None


async def test_a_role_bites_at_the_next_request(
    admin: Api, viewer: Api, operator: Api, users: dict[Role, str]
) -> None:
    task = {"name": "shop.greet", "args": ["x"]}
    await viewer.call("POST", "/tasks", 403, json=task)
    await changed(admin, users[Role.VIEWER], {"role": "operator"})
    await viewer.call("POST", "/tasks", 201, json=task)
    await changed(admin, users[Role.OPERATOR], {"role": "viewer"})
    await operator.call("POST", "/tasks", 403, json=task)


async def test_disabling_ends_sessions_for_good(
    admin: Api, viewer: Api, nobody: Api, users: dict[Role, str]
) -> None:
    out = await changed(admin, users[Role.VIEWER], {"disabled": True})
    assert out["disabled_at"] is not None
    await viewer.call("GET", "/auth/me", 401)
    login = {"email": "viewer@example.com", "password": PASSWORD}
    await nobody.call("POST", "/auth/login", 401, json=login)
    await changed(admin, users[Role.VIEWER], {"disabled": False})
    await viewer.call("GET", "/auth/me", 401)
    await nobody.call("POST", "/auth/login", json=login)


async def test_a_deleted_user_is_gone_at_once(
    admin: Api, viewer: Api, users: dict[Role, str]
) -> None:
    await admin.call("DELETE", f"/users/{users[Role.VIEWER]}", 204)
    await viewer.call("GET", "/auth/me", 401)
    await admin.call("GET", f"/users/{users[Role.VIEWER]}", 404)
    await admin.call("DELETE", f"/users/{users[Role.VIEWER]}", 404)


@pytest.mark.parametrize("body", [{"role": "viewer"}, {"disabled": True}])
async def test_the_last_administrator_stays(
    admin: Api, users: dict[Role, str], body: dict[str, Any]
) -> None:
    problem = await changed(admin, users[Role.ADMIN], body, 409)
    assert "last active administrator" in problem["detail"]
    await admin.call("DELETE", f"/users/{users[Role.ADMIN]}", 409)
    me = await admin.call("GET", "/auth/me")
    assert (me["user"]["role"], me["user"]["disabled_at"]) == ("admin", None)


async def test_two_administrators_cannot_end_each_other(
    app: FastAPI, admin: Api, nobody: Api, users: dict[Role, str]
) -> None:
    """The race that a check before the change would lose."""
    for turn in range(5):
        email = f"admin{turn}@example.com"
        body = {"email": email, "password": PASSWORD, "role": "admin"}
        other = await admin.call("POST", "/users", 201, json=body)
        granted = await nobody.call(
            "POST", "/auth/login", json={"email": email, "password": PASSWORD}
        )
        nobody.http.cookies.clear()
        second = Api(app, granted["access_token"])
        answers = await asyncio.gather(
            *(
                api.http.patch(
                    f"/api/v1/users/{user_id}", json={"role": "viewer"}, headers={"If-Match": "*"}
                )
                for api, user_id in ((admin, other["id"]), (second, users[Role.ADMIN]))
            )
        )
        statuses = sorted(answer.status_code for answer in answers)
        # The one who comes second is no administrator any more, or there would be none.
        assert statuses[0] == 200
        assert statuses[1] in {403, 409}
        if answers[1].status_code == 200:
            await second.call(
                "PATCH",
                f"/users/{users[Role.ADMIN]}",
                json={"role": "admin"},
                headers={"If-Match": "*"},
            )
            await changed(admin, other["id"], {"role": "viewer"})


async def test_one_who_invites_and_one_who_comes(
    admin: Api, nobody: Api, clock: TestClock, users: dict[Role, str]
) -> None:
    body = {"email": "Zoe@example.com", "role": "operator"}
    made = await admin.call("POST", "/invitations", 201, json=body)
    listed = (await admin.call("GET", "/invitations"))["items"]
    assert [one["id"] for one in listed] == [made["invitation"]["id"]]
    assert made["token"] not in str(listed)
    account = {"email": "zoe@example.com", "password": PASSWORD, "invitation": made["token"]}
    await nobody.call("POST", "/auth/register", 403, json={**account, "email": "eve@example.com"})
    granted = await nobody.call("POST", "/auth/register", 201, json=account)
    nobody.http.cookies.clear()
    assert granted["user"]["role"] == "operator"
    await nobody.call("POST", "/auth/register", 403, json=account)
    await admin.call("DELETE", f"/invitations/{made['invitation']['id']}", 404)
    await admin.call("POST", "/invitations", 409, json=body)
    assert (await admin.call("GET", "/invitations", params={"open": True}))["items"] == []


async def test_an_invitation_can_be_taken_back_and_ends(
    admin: Api, nobody: Api, clock: TestClock, app: FastAPI
) -> None:
    first, second = [
        await admin.call("POST", "/invitations", 201, json={"email": f"{name}@example.com"})
        for name in ("a", "b")
    ]
    page = await admin.call("GET", "/invitations", params={"limit": 1})
    rest = await admin.call("GET", "/invitations", params={"cursor": page["next_cursor"]})
    assert len({one["id"] for one in page["items"] + rest["items"]}) == 2
    await admin.call("DELETE", f"/invitations/{first['invitation']['id']}", 204)
    account = {"email": "a@example.com", "password": PASSWORD, "invitation": first["token"]}
    await nobody.call("POST", "/auth/register", 403, json=account)
    guest = await admin.call("POST", "/invitations", 201, json={"email": "c@example.com"})
    host = await admin.call("POST", "/users", 201, json={**EVE, "role": "admin"})
    user_id = guest["invitation"]["invited_by"]
    again = Api(app, (await nobody.call("POST", "/auth/login", json=_SIGN_IN))["access_token"])
    nobody.http.cookies.clear()
    await changed(again, user_id, {"role": "operator"})
    account = {"email": "c@example.com", "password": PASSWORD, "invitation": guest["token"]}
    problem = await nobody.call("POST", "/auth/register", 403, json=account)
    assert "who made it may invite nobody" in problem["detail"]
    await changed(again, user_id, {"role": "admin"})
    assert host["role"] == "admin"
    clock.advance(7 * 86_400)
    account = {"email": "b@example.com", "password": PASSWORD, "invitation": second["token"]}
    await nobody.call("POST", "/auth/register", 403, json=account)


async def test_only_administrators_manage_users(
    viewer: Api, operator: Api, users: dict[Role, str]
) -> None:
    for api in (viewer, operator):
        await changed(api, users[Role.VIEWER], {"role": "admin"}, 403)
        await api.call("GET", "/users", 403)
        await api.call("POST", "/users", 403, json={**EVE, "role": "admin"})
        await api.call("POST", "/invitations", 403, json={"email": "a@example.com"})


async def test_made_up_invitations_cost_no_hash_and_are_throttled(
    nobody: Api, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: str) -> str:
        raise AssertionError("hashed")

    monkeypatch.setattr(console.passwords, "hash", never)
    account = {**EVE, "invitation": "made up"}
    account.pop("role")
    for _ in range(20):
        await nobody.call("POST", "/auth/register", 403, json=account)
    answer = await nobody.http.post("/api/v1/auth/register", json=account)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
