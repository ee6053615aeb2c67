"""What the platform's own client, uwsgiit-py, does with a server.

    python uwsgiit_calls.py URL USERNAME PASSWORD STORAGE CONTAINER

Each step asserts what PLATFORM clients rely on; the first one that does not hold ends
it with a status other than 0. STORAGE stores custom distros, CONTAINER uses them; both
are the customer's, and so is nothing else of the kind.
"""

import sys

from uwsgiit.api import UwsgiItClient


class Steps:
    def __init__(self, url, username, password, storage, container):
        self.client = UwsgiItClient(username, password, url)
        self.storage, self.container = int(storage), int(container)
        self.url = url

    def good(self, response, status=200):
        assert not response.uerror, response.umessage
        assert response.status_code == status, response.status_code
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        return response.json()

    def bad(self, response, status, words):
        assert response.uerror and response.status_code == status, response.status_code
        assert words in response.umessage, response.umessage
        return response.json()

    def account(self):
        me = self.good(self.client.me())
        assert set(me) == {"email", "vat", "company", "uuid", "containers", "servers"}, me
        assert {self.storage, self.container} <= set(me["containers"]), me
        assert me["servers"], me
        wrong = UwsgiItClient(self.client.username, "wrong password", self.url)
        response = wrong.me()
        assert self.bad(response, 401, "UNAUTHORIZED") == {"error": "Unauthorized"}
        assert response.headers["WWW-Authenticate"] == 'Basic realm="uwsgi.it api"'

    def containers(self):
        listed = self.good(self.client.containers())
        names = (
            "uid name hostname ip memory storage uuid distro distro_name "
            "custom_distro server server_address tags"
        )
        for container in listed:
            assert set(names.split()) <= set(container), container
        uids = [container["uid"] for container in listed]
        assert {self.storage, self.container} <= set(uids), uids
        assert listed == self.good(self.client.get("me/containers"))
        tagged = {"tags": ["blue", "green"]}
        self.good(self.client.update_container(self.container, tagged))
        found = self.good(self.client.containers(tags=["blue"]))
        assert [container["uid"] for container in found] == [self.container], found
        assert self.good(self.client.containers(tags=["red"])) == []
        one = self.good(self.client.container(self.container))
        assert one["custom_distros_storage"] is False and one["note"] == "", one
        assert one["tags"] == ["blue", "green"], one
        note = {"note": "a 'note'\nof \U0001f427"}
        assert self.good(self.client.update_container(self.container, note)) == {"message": "Ok"}
        assert self.good(self.client.container(self.container))["note"] == note["note"]
        self.bad(self.client.update_container(self.container, {}), 403, "FORBIDDEN")
        forbidden = self.bad(self.client.container(1), 403, "FORBIDDEN")
        assert forbidden == {"error": "Forbidden"}, forbidden
        distro = self.good(self.client.distros())[0]["id"]
        self.good(self.client.container_set_distro(self.container, distro))
        assert self.good(self.client.container(self.container))["distro"] == distro
        self.good(self.client.container_set_keys(self.container, ["ssh-rsa one"]))
        assert self.good(self.client.container(self.container))["ssh_keys"] == ["ssh-rsa one"]
        self.good(self.client.reboot_container(self.container))

    def distros(self):
        client, storage, container = self.client, self.storage, self.container
        new = {"name": "mine", "path": "mine", "note": "the first"}
        made = self.good(client.post(["custom_distros", storage], new), 201)
        assert made == {"message": "Created"}, made
        self.bad(client.post(["custom_distros", storage], new), 403, "FORBIDDEN")
        for path in (".", "..", "a/b", "", "x" * 256):
            new = {"name": "other", "path": path}
            self.bad(client.post(["custom_distros", storage], new), 403, "FORBIDDEN")
        other = {"name": "other", "path": "other"}
        self.bad(client.post(["custom_distros", container], other), 403, "FORBIDDEN")
        listed = self.good(client.get("custom_distros"))
        assert [set(distro) for distro in listed] == [{"id", "name", "container"}], listed
        assert listed[0]["container"] == storage, listed
        distro = listed[0]["id"]
        usable = self.good(client.get(["custom_distros", container]))
        assert usable == [{"id": distro, "name": "mine"}], usable
        assert self.good(client.get(["custom_distros", storage])) == []
        one = self.good(client.get(["custom_distro", distro]))
        assert set(one) == {"id", "container", "name", "path", "note", "uuid"}, one
        changed = self.good(client.post(["custom_distro", distro], {"name": "renamed"}))
        assert changed == {**one, "name": "renamed"}, changed
        for given in (distro, str(distro)):
            self.good(client.update_container(container, {"custom_distro": given}))
            shown = self.good(client.container(container))
            assert shown["custom_distro"] == distro, shown
            assert shown["custom_distro_name"] == "renamed", shown
            self.good(client.update_container(container, {"custom_distro": None}))
            shown = self.good(client.container(container))
            assert shown["custom_distro"] is None, shown
            assert "custom_distro_name" not in shown, shown
        for wrong in (distro + 1000, "x", "", True):
            response = client.update_container(container, {"custom_distro": wrong})
            self.bad(response, 403, "FORBIDDEN")
        response = client.update_container(storage, {"custom_distro": distro})
        self.bad(response, 403, "FORBIDDEN")
        self.good(client.update_container(container, {"custom_distro": distro}))
        assert self.good(client.delete(["custom_distro", distro])) == {"message": "Ok"}
        self.bad(client.delete(["custom_distro", distro]), 403, "FORBIDDEN")
        assert self.good(client.container(container))["custom_distro"] is None
        assert self.good(client.get("custom_distros")) == []

    def alarms(self):
        client, container = self.client, self.container
        assert self.good(client.alarms()) == []
        about = {"class": "starwars", "color": "#ff0000", "level": 2, "line": 17}
        for message in ("it's a trap", "it's another"):
            made = self.good(client.create_alarm(container, message, about), 201)
            assert made == {"message": "Created"}, made
        self.good(client.create_alarm(container, "plain"), 201)
        self.bad(client.create_alarm(container, "x", {"level": 0}), 403, "FORBIDDEN")
        self.bad(client.create_alarm(1, "x"), 403, "FORBIDDEN")
        listed = self.good(client.alarms())
        # The client sends its messages as JSON.
        assert [alarm["msg"] for alarm in listed] == ['"plain"', '"it\'s another"', '"it\'s a trap"']
        names = "id container level color class vassal line filename func unix msg"
        assert all(set(alarm) == set(names.split()) for alarm in listed), listed
        found = self.good(client.alarms({"class": "starwars", "container": container, "level": 2}))
        assert found == listed[1:], found
        assert self.good(client.alarms({"range": "1"})) == listed[:1]
        assert self.good(client.alarms({"range": "1-3"})) == listed[1:]
        total = self.good(client.alarms({"with_total": "1", "range": "1"}))
        assert total == {"total": 3, "alarms": listed[:1]}, total
        self.bad(client.alarms({"range": "x"}), 416, "")
        one = listed[0]["id"]
        assert self.good(client.alarm(one)) == listed[0]
        assert self.good(client.delete_alarm(one)) == {"message": "Ok"}
        self.bad(client.alarm(one), 403, "FORBIDDEN")
        key = self.good(client.create_alarm_key(container))
        assert key["message"] == "Ok" and len(key["alarm_key"]) == 36, key
        nobody = UwsgiItClient("nobody", "nothing at all", self.url)
        raised = ["alarms", "raise", container]
        self.good(nobody.post(raised, "by key", {"key": key["alarm_key"]}), 201)
        self.bad(nobody.post(raised, "x", {"key": key["alarm_key"][:-1]}), 403, "FORBIDDEN")
        self.bad(nobody.post(["alarms", "raise", self.storage], "x", {"key": key["alarm_key"]}), 403, "FORBIDDEN")
        newest = self.good(client.alarms({"range": "1"}))
        assert newest[0]["msg"] == '"by key"' and newest[0]["level"] == 1, newest


def main():
    steps = Steps(*sys.argv[1:])
    for step in (steps.account, steps.containers, steps.distros, steps.alarms):
        step()
        print(step.__name__, "as expected")


main()
