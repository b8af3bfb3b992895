"""The library of functions, called in either of its two forms; composed as shared/redis_library.cpp does."""
import hashlib

import redis

from lib.edge import ROOT

FOLDER = ROOT / "shared" / "redis"
LIBRARY = (FOLDER / "experiment.lua").read_text()
SCRIPT = ((FOLDER / "script_begin.lua").read_text() + LIBRARY.partition("\n")[2] +
          (FOLDER / "script_end.lua").read_text())
SHA = hashlib.sha1(SCRIPT.encode()).hexdigest()
FORMS = ("function", "script")

# Keys of the namespace that is used without saying.
COUNTERS = "experiment:c:button:1"
CONTROL = "experiment:ctl"
EDGES = "experiment:edges"


class Library:
    """`library.merge(key, "instance", 5, "1,2,3")` calls experiment_merge; answers are as the client has them.

    `form`: "function" (Redis 7) or "script" (before).
    """

    def __init__(self, client, form, load=True):
        self.client, self.form = client, form
        if load:
            self.load()

    def load(self):
        if self.form == "function":
            self.client.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY)
        else:
            sha = self.client.execute_command("SCRIPT", "LOAD", SCRIPT)
            assert sha in (SHA, SHA.encode())

    def words(self, name, keys, *arguments):
        """The command that calls it."""
        if self.form == "function":
            return ["FCALL", f"experiment_{name}", len(keys), *keys, *arguments]
        return ["EVALSHA", SHA, len(keys), *keys, f"experiment_{name}", *arguments]

    def call(self, name, keys, *arguments):
        return self.client.execute_command(*self.words(name, keys, *arguments))

    def version(self):
        return self.call("version", [])

    def __getattr__(self, name):
        return lambda key, *arguments: self.call(name, [key], *arguments)

    def refusal(self, name, keys, *arguments):
        """The text of the error that the call must end with."""
        try:
            answer = self.call(name, keys, *arguments)
        except redis.RedisError as error:
            return str(error)
        raise AssertionError(f"{name} {arguments!r} answered {answer!r}, expected an error")
