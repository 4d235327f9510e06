"""Redis goes away, forgets and hangs: nothing is refused, and what happened meanwhile is published when it is back, at least
once and in order."""

import json

import pytest

import servers
from clients import noop, patient_until
from cluster import CALM, QUICK, Subscriber
from service import follow



@pytest.fixture
def own_redis():
    """One that may be broken."""
    with servers.Redis() as server:
        yield server


def nothing_refused(clients):
    clients.alive()
    assert clients.answers[503] == 0, clients.answers


def refuse_all(cluster):
    """The service loses its connections, in the middle of what it publishes; the subscriber hears what Redis has taken till
    then, so that the rest is to come again."""
    for replica in cluster.replicas:
        replica.redis_way.refuse()
    cluster.subscriber.caught_up()


def heal_all(cluster):
    cluster.subscriber.wait_for(lambda: cluster.subscriber.subscribed)
    for replica in cluster.replicas:
        replica.redis_way.heal()


def test_killed_and_back(database, clusters, own_redis):
    cluster = clusters(database, *CALM, redis=own_redis, ways=["redis"]).start()
    clients = cluster.clients().start()
    for _ in range(3):
        clients.wait_more(30)
        refuse_all(cluster)
        own_redis.kill()
        cluster.subscriber.wait_for(lambda: not cluster.subscriber.subscribed)
        clients.wait_more(30)
        own_redis.start()
        heal_all(cluster)
    nothing_refused(clients)
    cluster.finish(clients)


def test_degraded_and_healthy_again(database, clusters, own_redis):
    """It says so, and is ready to take work all the same."""
    cluster = clusters(database, *CALM, redis=own_redis).start()
    replica = cluster.replicas[0]
    own_redis.stop()
    ready = wait_ready(replica, "degraded")
    assert len(ready["degraded"]) == 1 and ready["degraded"][0] in ("bus", "redis"), ready
    assert replica.call("POST", "/execute?wait=100", {"executor": "noop", "code": ""}).json["phase"] == "succeeded"
    own_redis.start()
    assert wait_ready(replica, "ready", "ok")["degraded"] == []


def wait_ready(replica, *words):
    found = {}

    def ready():
        answer = replica.call("GET", "/readyz")
        assert answer.status == 200, answer
        found.update(answer.json)
        return found["status"] in words

    patient_until(ready, explain=lambda: f"{found}\n{replica.text()}")
    return found


def test_not_there_at_first(database, clusters, own_redis):
    """Work is taken before Redis has ever been there."""
    cluster = clusters(database, *CALM, redis=own_redis, ways=["redis"])
    for way in cluster.ways:
        way.refuse()
    cluster.start()
    clients = cluster.clients().start()
    clients.wait_more(40)
    heal_all(cluster)
    clients.wait_more(10)
    nothing_refused(clients)
    cluster.finish(clients)


def test_flushed(database, clusters, own_redis):
    """There is nothing of ours in it that could be missed."""
    cluster = clusters(database, *CALM, redis=own_redis).start()
    clients = cluster.clients().start()
    for _ in range(5):
        clients.wait_more(15)
        own_redis.cli("FLUSHALL")
    nothing_refused(clients)
    cluster.finish(clients)


def test_paused(database, clusters, own_redis):
    """It hangs, and its connections stay open."""
    cluster = clusters(database, *CALM, redis=own_redis).start()
    clients = cluster.clients().start()
    for _ in range(2):
        clients.wait_more(30)
        own_redis.pause()
        clients.wait_more(60)
        own_redis.resume()
    nothing_refused(clients)
    cluster.finish(clients)


@pytest.mark.slow
def test_a_way_that_is_black(database, clusters, own_redis):
    """And then cut: what had been sent into it has not arrived."""
    cluster = clusters(database, *CALM, redis=own_redis, ways=["redis"]).start()
    clients = cluster.clients().start()
    for _ in range(2):
        for replica in cluster.replicas:
            clients.wait_more(20)
            replica.redis_way.black_hole()
            clients.wait_more(40)
            replica.redis_way.cut()
            replica.redis_way.heal()
    nothing_refused(clients)
    cluster.finish(clients)


def test_replies_are_lost(database, clusters, own_redis):
    """Published, and nobody knows it: it is published again."""
    cluster = clusters(database, *CALM, redis=own_redis, ways=["redis"]).start()
    clients = cluster.clients().start()
    for _ in range(3):
        for replica in cluster.replicas:
            clients.wait_more(10)
            replica.redis_way.swallow_replies()
            replica.redis_way.wait_swallowed()
            replica.redis_way.cut()
            replica.redis_way.heal()
    nothing_refused(clients)
    cluster.finish(clients)


def test_one_dies_with_what_it_had_not_published(database, clusters, own_redis):
    """Whoever takes what it ran publishes what it could not."""
    cluster = clusters(database, *QUICK, redis=own_redis, ways=["redis"]).start()
    first, second = cluster.replicas
    first.redis_way.refuse()
    clients = cluster.clients(programs=[noop]).start()
    clients.wait_more(60)
    first.kill()
    cluster.wait_dead(first)
    first.redis_way.heal()
    clients.wait_more(20)
    nothing_refused(clients)  # who starts again says 503 until it is ready
    first.start()
    book = cluster.finish(clients)
    assert len({event.publisher for events in book.events.values() for event in events}) >= 2
    assert second.process.returncode == 0


def test_who_was_to_publish_for_a_dead_one_dies_too(database, clusters, own_redis):
    """Then the next one publishes for both."""
    cluster = clusters(database, *QUICK, redis=own_redis, ways=["redis"], count=3)
    first, second, third = cluster.replicas
    for way in cluster.ways:
        way.refuse()
    cluster.subscriber = Subscriber(own_redis).start()
    keys = set()
    for replica in (first, second):
        replica.start()
        told = replica.call("POST", "/execute?wait=100", {"executor": "noop", "code": ""}).json
        assert told["phase"] == "succeeded", told
        keys |= {(told["task_id"], number) for number in (1, 2)}
    first.kill()
    cluster.wait_dead(first)
    second.kill()
    heal_all(cluster)
    third.start()
    cluster.subscriber.wait_for(lambda: keys <= cluster.subscriber.keys)


def test_one_is_stopped_with_what_it_had_not_published(database, clusters, own_redis):
    """Told to end while Redis is away, it ends in time; the others publish for it, or it does so itself when it is back."""
    cluster = clusters(database, *QUICK, redis=own_redis, ways=["redis"]).start()
    first = cluster.replicas[0]
    first.redis_way.refuse()
    clients = cluster.clients(programs=[noop]).start()
    clients.wait_more(60)
    nothing_refused(clients)  # till now: who is told to end, or has just begun, says 503
    assert first.stop() == 0, first.text()
    first.redis_way.heal()
    clients.wait_more(20)
    clients.alive()
    first.start()
    cluster.finish(clients)


def test_all_are_stopped_while_it_is_away(database, clusters, own_redis):
    """The next start finds in the database what nobody has published."""
    cluster = clusters(database, *QUICK, redis=own_redis).start()
    own_redis.stop()
    told = cluster.replicas[0].call("POST", "/execute?wait=100", {"executor": "noop", "code": "", "eval_id": "unheard"}).json
    assert told["phase"] == "succeeded", told
    for replica in cluster.replicas:
        assert replica.stop() == 0, replica.text()
    own_redis.start()
    cluster.subscriber.wait_for(lambda: cluster.subscriber.subscribed)
    for replica in cluster.replicas:
        replica.start()
    cluster.subscriber.wait_for(lambda: {key for key in cluster.subscriber.keys if key[0] == told["task_id"]} >=
                                {(told["task_id"], 1), (told["task_id"], 2)})


def test_a_cursor_does_not_lie_behind_what_was_not_heard(database, clusters, own_redis):
    """A follower was told of what came later, left, and comes back: what had not been published by then is told now."""
    cluster = clusters(database, *CALM, redis=own_redis, ways=["redis"]).start()
    first, second = cluster.replicas
    stream = follow(second.url, "/events?cursor=0")

    def told(last):
        """All of the stream until that evaluation has ended, and the cursor then."""
        keys, cursor = set(), None
        for identifier, kind, data in stream:
            keys.add((data["task_id"], data.get("sequence")))
            cursor = identifier or cursor
            if data["eval_id"] == last and kind == "completed":
                return keys, cursor
        return pytest.fail(f"the stream ended before {last}")

    def run(replica, name):
        return replica.call("POST", "/execute?wait=100", {"executor": "noop", "code": "", "eval_id": name}).json["task_id"]

    run(second, "before")
    told("before")
    first.redis_way.black_hole()
    unheard = run(first, "unheard")
    run(second, "heard")
    keys, cursor = told("heard")
    stream = follow(second.url, "/events", cursor)
    run(second, "after")
    keys |= told("after")[0]
    assert {(unheard, 1), (unheard, 2)} <= keys


# ---- what is published ----


def test_channels_and_payloads(database, clusters, own_redis):
    """Of one evaluation, from its acceptance to its end, with what it printed."""
    cluster = clusters(database, *CALM, redis=own_redis).start()
    answer = cluster.replicas[0].call("POST", "/execute?wait=100", {
        "language": "bash", "code": "echo out; echo err >&2; exit 3", "eval_id": "told"}).json
    heard = cluster.subscriber
    heard.wait_for(lambda: any(kind == "failed" for kind, _ in heard.payloads))
    durable = [(kind, payload) for kind, payload in heard.payloads if "sequence" in payload]
    assert [kind for kind, _ in durable] == ["queued", "running", "failed"]
    for number, (kind, payload) in enumerate(durable, 1):
        assert payload["kind"] == kind and payload["sequence"] == number and payload["eval_id"] == "told", payload
        assert (payload["task_id"], payload["job_name"], payload["run"]) == (answer["task_id"], answer["job_name"], 1), payload
        assert isinstance(payload["timestamp"], float), payload
    end = durable[-1][1]
    assert (end["exit_code"], end["output"], end["error"], end["reason"], end["fault"]) == \
        (3, "out\n", "err\n", "exit_code", "user"), end
    assert end["duration_seconds"] > 0, end


def test_a_prefix_and_a_stream(database, clusters, own_redis):
    """Channels with a prefix; and the durable events in a stream of Redis, where that is asked for."""
    cluster = clusters(database, *CALM, redis=own_redis, ASSAY_REDIS_PREFIX="staging:", ASSAY_REDIS_STREAM="evaluations")
    heard = Subscriber(own_redis, "staging:evaluation:").start()
    cluster.start()
    told = cluster.replicas[0].call("POST", "/execute?wait=100", {"executor": "noop", "code": "", "eval_id": "told"}).json
    keys = {(told["task_id"], number) for number in (1, 2)}
    heard.wait(keys)
    assert keys <= heard.keys
    heard.over = True
    assert not cluster.subscriber.payloads
    with heard.client() as client:
        entries = client.xrange("staging:evaluations")
    kept = [json.loads(next(value for value in fields.values() if value.startswith(b"{"))) for _, fields in entries]
    assert [payload["kind"] for payload in kept if payload["task_id"] == told["task_id"]][-1] == "completed"
