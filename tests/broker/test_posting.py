"""Messages that nobody waits for: in order, bounded, and never lost without a word."""

from __future__ import annotations

import contextlib
import threading

import pytest
import redis

from redis_pubsub.broker import Read, line, open_blocking, posting
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions
from redis_pubsub.testing import RedisServer

from .test_contract import draft

WAIT_S = 20
LONG_S = 3600.0


class Told:
    """What became of messages, as whoever posted them was told."""

    def __init__(self):
        self.outcomes = []
        self._changed = threading.Condition()

    def __call__(self, error):
        with self._changed:
            self.outcomes.append(error)
            self._changed.notify_all()

    def wait_for(self, number):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.outcomes) >= number, WAIT_S)

    @property
    def failures(self):
        return [each for each in self.outcomes if isinstance(each, BrokerUnavailable)]


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def server():
    """A Redis that nobody else is connected to."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def opened(server, prefix, metrics):
    """Opens brokers whose thread reads no answers unless it is asked to."""
    with contextlib.ExitStack() as stack:

        def open_one(**times):
            options = BrokerOptions(url=server.url, prefix=prefix, **times)
            broker = open_blocking(options, metrics)
            stack.callback(broker.close)
            return broker

        yield open_one


@pytest.fixture
def broker(opened):
    return opened()


@pytest.fixture
def nobody_reads(monkeypatch):
    """The thread that reads answers sleeps, so that others have to."""
    monkeypatch.setattr(posting, "READ_S", LONG_S)


@pytest.fixture
def admin(server):
    with redis.Redis.from_url(server.url) as admin:
        yield admin


@contextlib.contextmanager
def held(admin):
    """Redis takes messages, and neither publishes nor answers them."""
    admin.client_pause(60_000, all=False)
    yield
    admin.client_unpause()


def heard(broker, channel="news"):
    (history,) = broker.read([Read(channel)])
    return [message.payload for message in history.messages]


def test_who_posts_does_not_wait_for_the_answer(broker, admin, told):
    """Redis has not even looked at the messages when `post` returns."""
    with held(admin):
        broker.post([draft(1)], told)
        broker.post([draft(2)], told)

        assert told.outcomes == [] and not broker.is_settled

    broker.settle()
    assert told.outcomes == [None, None] and broker.is_settled
    assert heard(broker) == [1, 2]


def test_answers_are_read_though_nobody_asks(broker, told):
    """By a thread that is there for nothing else."""
    broker.post([draft(1)], told)

    told.wait_for(1)

    assert told.outcomes == [None]


def test_the_next_message_reads_what_has_come(broker, admin, told, nobody_reads):
    """So a process that saves row after row needs no other thread."""
    broker.post([draft(1)], told)
    # Redis answers one after the other: when this is there, so is what was before.
    admin.ping()

    broker.post([draft(2)], told)

    assert told.outcomes == [None]


def test_whatever_else_is_asked_of_redis_comes_after(broker, told, nobody_reads):
    """Also on another connection: a process reads what it wrote."""
    for ask in (
        lambda: heard(broker),
        lambda: broker.publish([draft("x")]),
        lambda: broker.put("name", b"value", 1),
        lambda: broker.jobs.state([]),
        lambda: broker.presence.members("news"),
    ):
        broker.post([draft(1)], told)
        count = len(told.outcomes)
        ask()
        assert len(told.outcomes) == count + 1 or broker.is_settled
        assert broker.is_settled
    assert set(told.outcomes) == {None}


def test_all_threads_share_one_connection(broker, admin, told):
    """Two would let a message overtake one that another thread posted before it."""
    for number in range(20):
        thread = threading.Thread(target=broker.post, args=([draft(number)], told))
        thread.start()
        thread.join(WAIT_S)

    broker.settle()

    ours = [each for each in admin.client_list() if each["cmd"] != "client|list"]
    assert len(ours) == 1
    assert heard(broker)[-5:] == [15, 16, 17, 18, 19]


@pytest.mark.parametrize("name", ["LATE_S", "LOOK_S"])
def test_a_late_answer_is_waited_for(opened, admin, told, monkeypatch, name, nobody_reads):
    """Before anything newer is written; and so is now and then one on a connection that
    is never idle, to see where it leads."""
    broker = opened(command_timeout_s=0.2)
    broker.publish([draft(0)])
    with held(admin):
        broker.post([draft(1)], told)
        assert told.outcomes == []
        monkeypatch.setattr(line, name, 0.0)

        with pytest.raises(BrokerUnavailable, match="no answer"):
            broker.post([draft(2)], told)

        assert len(told.failures) == 1


def test_beyond_the_bound_who_posts_waits(opened, admin, told, monkeypatch, nobody_reads):
    """At most so many messages are unanswered; a Redis that hangs then fails them all, and
    keeps nobody longer than one command may take."""
    monkeypatch.setattr(posting, "MOST", 3)
    broker = opened(command_timeout_s=0.2)
    broker.publish([draft(0)])
    with held(admin):
        for number in range(3):
            broker.post([draft(number)], told)
        assert told.outcomes == []

        broker.post([draft(3)], told)

        assert len(told.failures) == 4


def test_beyond_the_bound_of_bytes_who_posts_waits(broker, told, monkeypatch, nobody_reads):
    """A large message is not left in memory either."""
    monkeypatch.setattr(posting, "MOST_BYTES", 10_000)

    broker.post([draft("x" * 20_000)], told)

    assert told.outcomes == [None]


def test_a_redis_that_hangs_fails_what_is_unanswered(opened, admin, told):
    """The thread gives it up after the time that a command may take."""
    broker = opened(command_timeout_s=0.2)
    with held(admin):
        broker.post([draft(1)], told)

        told.wait_for(1)

    (error,) = told.failures
    assert "no answer within 0.2 s" in str(error) and error.__cause__ is not None
    broker.post([draft(2)], told)
    broker.settle()
    assert told.outcomes[1:] == [None]


def test_settling_with_a_redis_that_hangs_is_an_error(opened, admin, told, nobody_reads):
    """Whoever wants something else of it is told at once, and does not wait twice."""
    broker = opened(command_timeout_s=0.2)
    with held(admin):
        broker.post([draft(1)], told)

        with pytest.raises(BrokerUnavailable):
            broker.read([Read("news")])

        assert len(told.failures) == 1


def test_who_waits_behind_one_that_fails_fails_with_it(opened, admin, told, monkeypatch):
    """Ten threads and a Redis that hangs: nobody waits for ten times as long."""
    monkeypatch.setattr(posting, "MOST", 0)
    broker = opened(command_timeout_s=0.3)
    broker.publish([draft(0)])
    # Nobody gives up before his turn.
    broker._posting._turn._timeout_s = WAIT_S
    errors = []

    def post():
        try:
            broker.post([draft(1)], told)
        except BrokerUnavailable as error:
            errors.append(str(error))

    with held(admin):
        threads = [threading.Thread(target=post) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)

    assert len(told.failures) + len(errors) == 10
    assert len(told.failures) < 10
    assert set(errors) == {"Redis: it has just failed another thread"}


def test_a_lost_connection_fails_what_is_unanswered(broker, admin, told, nobody_reads):
    """They may be out or not, as any command may be; the next are sent on a new one."""
    with held(admin):
        broker.post([draft(1)], told)
        broker.post([draft(2)], told)
        admin.client_kill_filter(_type="normal", skipme=True)

        broker.settle()

    assert len(told.failures) == 2
    broker.post([draft(3)], told)
    broker.settle()
    assert told.outcomes[2:] == [None] and heard(broker) == [3]


def test_a_connection_that_was_cut_while_idle_loses_nothing(broker, admin, told):
    """As behind a firewall, or by the server's ``timeout``."""
    broker.post([draft(1)], told)
    broker.settle()
    admin.client_kill_filter(_type="normal", skipme=True)

    broker.post([draft(2)], told)
    broker.settle()

    assert told.outcomes == [None, None] and heard(broker) == [1, 2]


def test_forgotten_scripts_are_loaded_and_order_is_kept(broker, admin, told, nobody_reads):
    """All that was written since ``SCRIPT FLUSH`` is sent again before anything newer."""
    broker.post([draft(1)], told)
    broker.settle()
    with held(admin):
        admin.script_flush()
        broker.post([draft(2)], told)
        broker.post([draft(3), draft(4)], told)

    broker.post([draft(5)], told)
    broker.settle()

    assert told.outcomes == [None] * 4 and heard(broker) == [1, 2, 3, 4, 5]


def test_a_new_connection_brings_the_script(broker, admin, told):
    """What a restarted Redis would refuse could come behind what is posted meanwhile."""
    admin.script_flush()
    before = admin.info("errorstats").get("errorstat_NOSCRIPT")

    broker.post([draft(1)], told)
    broker.settle()

    assert admin.info("errorstats").get("errorstat_NOSCRIPT") == before
    assert told.outcomes == [None]


def test_an_error_that_redis_answers_is_told(broker, admin, told):
    """And is only of the messages it answers; the connection goes on."""
    broker.post([draft(1)], told)
    admin.config_set("min-replicas-to-write", 1)
    broker.settle()
    broker.post([draft(2)], told)
    broker.settle()
    admin.config_set("min-replicas-to-write", 0)
    broker.post([draft(3)], told)
    broker.settle()

    first, second, third = told.outcomes
    assert first is None and third is None and "NOREPLICAS" in str(second).upper()
    assert heard(broker) == [1, 3]


def test_closing_waits_for_the_answers(broker, told, nobody_reads):
    """The connection must not be cut while messages are on it."""
    broker.post([draft(1)], told)

    broker.close()

    assert told.outcomes == [None]


def test_who_is_told_may_publish(broker, told, nobody_reads):
    """A handler of the log that saves rows is told in the middle of it."""

    def telling(error):
        broker.post([draft(2)], told)
        assert heard(broker) == [1, 2]
        told(error)

    broker.post([draft(1)], telling)
    broker.settle()

    assert told.outcomes == [None, None]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_noticed_and_replaced(broker, told, metrics, monkeypatch, caplog):
    """At the next message, with a line in the log and a count."""
    threads = []

    def die(self):
        threads.append(threading.current_thread())
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(posting.Posting, "_read", die)
        broker.post([draft(1)], told)
        while not threads:
            threading.Event().wait(0.01)
        threads[0].join(WAIT_S)

    broker.post([draft(2)], told)

    told.wait_for(2)
    assert metrics["answers_thread_died"] == 1
    assert "has died" in caplog.text


def test_without_another_thread_who_posts_waits(broker, told, monkeypatch):
    """As at the interpreter's end."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    broker.post([draft(1)], told)

    assert told.outcomes == [None]


def test_an_idle_thread_ends_and_comes_back(broker, told, metrics, monkeypatch):
    """That is no death."""
    monkeypatch.setattr(posting, "LINGER_S", 0.0)
    monkeypatch.setattr(posting, "IDLE_S", 0.01)
    before = set(threading.enumerate())
    broker.post([draft(1)], told)
    (thread,) = set(threading.enumerate()) - before
    thread.join(WAIT_S)
    assert not thread.is_alive()

    broker.post([draft(2)], told)

    told.wait_for(2)
    assert metrics["answers_thread_died"] == 0


class Interrupted:
    """A socket; a signal comes while something is written to it."""

    def __init__(self, socket):
        self._socket = socket

    def __getattr__(self, name):
        return getattr(self._socket, name)

    def sendall(self, _):
        raise KeyboardInterrupt


def test_a_write_that_is_interrupted_fails_what_is_unanswered(
    broker, admin, told, nobody_reads
):
    """redis-py closes the connection then, and would open another: whose answers are not
    those of the messages before."""
    broker.post([draft(1)], told)
    broker.settle()
    with held(admin):
        broker.post([draft(2)], told)
        connection = broker._posting._line._connection
        connection._sock = Interrupted(connection._sock)
        with pytest.raises(KeyboardInterrupt):
            broker.post([draft(3)], told)

        broker.post([draft(4)], told)

    broker.settle()
    first, second, third, fourth = told.outcomes
    assert first is None and fourth is None
    assert told.failures == [second, third]
    assert heard(broker) == [1, 4]


def test_an_interruption_mixes_no_answers_up(
    broker, admin, told, monkeypatch, nobody_reads
):
    """A signal's handler may raise anywhere, also between an answer and the note of it."""
    broker.post([draft(1)], told)
    broker.settle()

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(broker._posting._line, "_pop", interrupt)
        with pytest.raises(KeyboardInterrupt):
            broker.post([draft(2)], told)
            broker.settle()
    broker.post([draft(3)], told)
    admin.config_set("min-replicas-to-write", 1)
    broker.settle()
    broker.post([draft(4)], told)
    broker.settle()
    admin.config_set("min-replicas-to-write", 0)

    assert told.outcomes[-2] is None
    assert "NOREPLICAS" in str(told.outcomes[-1]).upper()


def test_messages_that_are_sent_again_are_not_settled(
    broker, admin, told, monkeypatch, nobody_reads
):
    """Another thread that asks Redis for something else must not overtake them."""
    broker.post([draft(1)], told)
    broker.settle()
    seen = []
    pack = line.Line._packed

    def packed(self, commands):
        seen.append(broker.is_settled)
        return pack(self, commands)

    with held(admin):
        admin.script_flush()
        broker.post([draft(2)], told)
    monkeypatch.setattr(line.Line, "_packed", packed)

    broker.settle()

    assert seen == [False]
    assert told.outcomes == [None, None] and heard(broker) == [1, 2]


def test_who_posts_after_the_end_is_told(broker, told, nobody_reads):
    """A thread that still has the broker when the settings change."""
    broker.close()

    broker.post([draft(1)], told)

    assert told.outcomes == [None]


def test_who_fails_when_told_harms_nobody_else(broker, told, metrics, nobody_reads, caplog):
    """Neither whoever posts next, in whose thread it is told, nor those told after."""

    def fail(error):
        raise ValueError("not mine")

    broker.post([draft(1)], fail)
    broker.post([draft(2)], told)

    broker.settle()

    assert told.outcomes == [None]
    assert "not mine" in caplog.text
