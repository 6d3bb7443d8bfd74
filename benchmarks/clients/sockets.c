/* Many WebSocket clients in one process, which check every message they get.
 *
 * Takes commands from standard input, one a line, and answers each with one line of JSON:
 *
 *   dialect path=HEX header=HEX ping=HEX pong=HEX stream=0|1
 *   step send=HEX wait=HEX count=N      what is said after the handshake, in order;
 *                                       "{index}" in what is sent is the socket's number,
 *                                       "{index%10}" the same modulo 10
 *   connect port=N sockets=N parallel=N timeout_ms=N
 *   expect first=N messages=N size=N    a round: every socket gets these, in this order
 *   collect timeout_ms=N                its figures, once every socket has everything
 *   drop                                cut all connections
 *
 * A message is found in whatever a server puts around it, by the beginning of the payload
 * (benchmarks/payloads.py), then checked to its last byte. With stream=1 messages may begin
 * and end inside of frames. Times are CLOCK_MONOTONIC, which all processes share.
 *
 * Sources: RFC 6455, sections 4 and 5.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 18, STEPS = 8, EVENTS = 512, SUB = 64, BUCKETS = SUB * 32 };
enum state { CONNECTING, UPGRADING, TALKING, READY, DEAD };

static const char MARK[] = "{\"n\":1";
enum { MARK_BYTES = 6, NUMBER_AT = 6, NUMBER_DIGITS = 9, TIME_AT = 21, TIME_DIGITS = 15,
       FILLER_AT = 42 };

typedef struct { char *at; size_t size, room; } bytes;

typedef struct {
    int fd;
    enum state state;
    int index, step, waited;
    int64_t next, got, started_us;
    bytes rest;   /* an unfinished frame */
    bytes stream; /* an unfinished message, where they do not end with frames */
} client;

typedef struct { uint64_t count[BUCKETS], total, max; } histogram;

static struct { bytes path, header, ping, pong; int stream, steps;
                struct { bytes send, wait; int count; } step[STEPS]; } dialect;
static client *clients;
static int client_count, client_room, poller, ready_count, dead_count;
static struct { int wanted, begun, parallel, port, active; int64_t deadline_us, began_us; } storm;
static struct { int active, collecting; int64_t first, messages, size, deadline_us,
                began_us, finished_us, deliveries, bytes, reads, frames;
                int complete; double cpu_s; } round_;
static uint64_t disordered, malformed, unexpected, closed, close_codes[8];
static histogram delays, handshakes;
static char last_error[200];
static unsigned char *buffer, *joined;
static size_t joined_room;
static char *filler;
static size_t mark_at;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static double cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void must(int is_true, const char *what) {
    if (!is_true) { perror(what); exit(1); }
}

static void keep(bytes *into, const void *from, size_t size) {
    if (into->room < size) {
        into->room = size * 2;
        into->at = realloc(into->at, into->room);
        must(into->at != NULL, "realloc");
    }
    memmove(into->at, from, size);
    into->size = size;
}

/* -- figures ------------------------------------------------------------------------- */

static void note(histogram *h, int64_t us) {
    uint64_t value = us < 0 ? 0 : (uint64_t)us;
    int shift = value < SUB ? 0 : 63 - __builtin_clzll(value) - 6 + 1;
    size_t bucket = (size_t)shift * (SUB / 2) + (value >> shift);
    h->count[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    h->total++;
    if (value > h->max) h->max = value;
}

static double at_share(const histogram *h, double share) {
    uint64_t wanted = (uint64_t)(h->total * share), seen = 0;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += h->count[bucket];
        if (seen > wanted) {
            size_t shift = bucket < SUB ? 0 : bucket / (SUB / 2) - 1;
            return (double)((bucket - shift * (SUB / 2)) << shift) / 1000;
        }
    }
    return (double)h->max / 1000;
}

static void print_histogram(const char *name, const histogram *h) {
    printf(",\"%s\":", name);
    if (!h->total) { printf("{}"); return; }
    printf("{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"max\":%.3f}", at_share(h, 0.5),
           at_share(h, 0.9), at_share(h, 0.99), h->max / 1000.0);
}

static void print_failures(void) {
    printf(",\"disordered\":%lu,\"malformed\":%lu,\"unexpected\":%lu,\"closed\":%lu,"
           "\"close_codes\":[%lu,%lu],\"dead\":%d,\"error\":\"%s\"",
           disordered, malformed, unexpected, closed, close_codes[0], close_codes[1],
           dead_count, last_error);
}

static void answer_connect(int is_late) {
    int64_t took = now_us() - storm.began_us;
    storm.active = 0;
    printf("{\"connected\":%d,\"late\":%d,\"took_s\":%.6f,\"cpu_s\":%.6f", ready_count,
           is_late, took / 1e6, cpu_s() - round_.cpu_s);
    print_histogram("latency_ms", &handshakes);
    print_failures();
    printf("}\n");
    fflush(stdout);
}

static void answer_collect(int is_late) {
    int64_t took = now_us() - round_.began_us;
    double used = cpu_s() - round_.cpu_s;
    round_.active = round_.collecting = 0;
    printf("{\"late\":%d,\"complete\":%d,\"sockets\":%d,\"deliveries\":%ld,\"bytes\":%ld,"
           "\"reads\":%ld,\"frames\":%ld,\"finished_us\":%ld,\"cpu_s\":%.6f,"
           "\"core_share\":%.4f",
           is_late, round_.complete, client_count, round_.deliveries, round_.bytes,
           round_.reads, round_.frames, round_.finished_us, used, used / (took / 1e6));
    print_histogram("latency_ms", &delays);
    print_failures();
    printf("}\n");
    fflush(stdout);
}

/* -- one socket ---------------------------------------------------------------------- */

static void connect_more(void);

static void die(client *c, const char *why) {
    if (c->state == DEAD) return;
    if (!last_error[0] && why) {
        snprintf(last_error, sizeof last_error, "%s", why);
        for (char *p = last_error; *p; p++)
            if (*p < ' ' || *p == '"' || *p == '\\' || *p > '~') *p = '_';
    }
    if (c->state == READY) ready_count--;
    c->state = DEAD;
    dead_count++;
    closed++;
    close(c->fd);
    free(c->rest.at);
    free(c->stream.at);
    c->rest = c->stream = (bytes){0};
}

static void put(client *c, const void *data, size_t size) {
    /* What clients say is short, and nothing else is waiting in the socket. */
    if (send(c->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) die(c, "cannot send");
}

/* A masked frame; the mask is nothing but zeros, which changes no byte. */
static void say(client *c, int opcode, const char *payload, size_t size) {
    unsigned char frame[4096] = {(unsigned char)(0x80 | opcode)};
    size_t head = 2;
    if (size + 8 > sizeof frame) { die(c, "too long to say"); return; }
    if (size < 126) {
        frame[1] = (unsigned char)(0x80 | size);
    } else {
        frame[1] = 0xFE;
        frame[2] = (unsigned char)(size >> 8);
        frame[3] = (unsigned char)size;
        head = 4;
    }
    memset(frame + head, 0, 4);
    memcpy(frame + head + 4, payload, size);
    put(c, frame, head + 4 + size);
}

static size_t with_index(const bytes *form, int index, char *into, size_t room) {
    size_t out = 0;
    for (size_t i = 0; i < form->size && out + 16 < room;) {
        const char *at = form->at + i;
        size_t left = form->size - i, length = 6;
        int value = index, many = 0;
        if (left < 7 || memcmp(at, "{index", 6)) { into[out++] = form->at[i++]; continue; }
        if (at[6] == '%') {
            for (length = 7; length < left && at[length] >= '0' && at[length] <= '9'; length++)
                many = many * 10 + at[length] - '0';
            if (many) value = index % many;
        }
        out += (size_t)snprintf(into + out, room - out, "%d", value);
        i += length + 1;
    }
    return out;
}

static void enter(client *c, int step) {
    char said[3072];
    c->step = step;
    c->waited = 0;
    if (step == dialect.steps) {
        c->state = READY;
        ready_count++;
        note(&handshakes, now_us() - c->started_us);
        connect_more();
        return;
    }
    size_t size = with_index(&dialect.step[step].send, c->index, said, sizeof said);
    if (size) say(c, 1, said, size);
    if (c->state != DEAD && !dialect.step[step].count) enter(c, step + 1);
}

static int64_t digits(const unsigned char *p, int count) {
    int64_t value = 0;
    while (count--) value = value * 10 + (*p++ - '0');
    return value;
}

static void take_message(client *c, const unsigned char *p, int64_t now) {
    int64_t number = digits(p + NUMBER_AT, NUMBER_DIGITS);
    size_t size = (size_t)round_.size;
    if (memcmp(p + FILLER_AT, filler, size - FILLER_AT)) { malformed++; return; }
    if (number != c->next) disordered++;
    c->next = number + 1;
    round_.deliveries++;
    note(&delays, now - digits(p + TIME_AT, TIME_DIGITS));
    if (++c->got == round_.messages) {
        round_.complete++;
        round_.finished_us = now;
    }
}

/* Take all messages in some bytes; how many bytes are done with. */
static size_t take_messages(client *c, const unsigned char *p, size_t size, int64_t now) {
    size_t done = 0, wanted = (size_t)round_.size;
    while (size - done >= wanted) {
        const unsigned char *from = p + done, *found = NULL;
        if (size - done >= mark_at + wanted && !memcmp(from + mark_at, MARK, MARK_BYTES))
            found = from + mark_at;
        else
            found = memmem(from, size - done, MARK, MARK_BYTES);
        if (!found || (size_t)(p + size - found) < wanted) break;
        mark_at = (size_t)(found - from);
        take_message(c, found, now);
        done = (size_t)(found - p) + wanted;
    }
    return done;
}

static int count_of(const unsigned char *p, size_t size, const bytes *word) {
    int found = 0;
    const unsigned char *end = p + size, *at;
    while ((at = memmem(p, (size_t)(end - p), word->at, word->size))) {
        found++;
        p = at + word->size;
    }
    return found;
}

static void take_words(client *c, const unsigned char *p, size_t size) {
    if (c->state != TALKING) {
        /* A server's ping in its own words, or what nobody asked for. */
        if (!dialect.ping.size || !count_of(p, size, &dialect.ping)) unexpected++;
        return;
    }
    c->waited += count_of(p, size, &dialect.step[c->step].wait);
    if (memmem(p, size, "\"error\"", 7)) { die(c, (const char *)p); return; }
    if (c->waited >= dialect.step[c->step].count) enter(c, c->step + 1);
}

static void take_data(client *c, const unsigned char *p, size_t size, int64_t now) {
    round_.frames++;
    if (dialect.ping.size && size == dialect.ping.size &&
        !memcmp(p, dialect.ping.at, size)) {
        say(c, 1, dialect.pong.at, dialect.pong.size);
    } else if (c->state == READY && round_.active) {
        if (!take_messages(c, p, size, now)) unexpected++;
    } else {
        take_words(c, p, size);
    }
}

static void take_frame(client *c, int opcode, const unsigned char *p, size_t size,
                       int64_t now) {
    if (opcode == 9) {
        say(c, 10, (const char *)p, size);
    } else if (opcode == 8) {
        close_codes[0] = size > 1 ? (uint64_t)(p[0] << 8 | p[1]) : 1005;
        die(c, "closed by the server");
    } else if (opcode < 3) {
        take_data(c, p, size, now);
    }
}

static void take_stream(client *c, size_t size, int64_t now) {
    size_t done = 0;
    if (c->state == READY && round_.active) {
        done = take_messages(c, joined, size, now);
        if (dialect.ping.size && count_of(joined + done, size - done, &dialect.ping)) {
            say(c, 1, dialect.pong.at, dialect.pong.size);
            if (size - done == dialect.ping.size) done = size;
        }
    } else {
        if (dialect.ping.size && count_of(joined, size, &dialect.ping))
            say(c, 1, dialect.pong.at, dialect.pong.size);
        if (c->state == TALKING) take_words(c, joined, size);
        done = size;
    }
    keep(&c->stream, joined + done, size - done);
}

/* Take whole frames; how many bytes they are. */
static size_t take_frames(client *c, const unsigned char *p, size_t size, int64_t now) {
    size_t done = 0, streamed = 0;
    if (dialect.stream) {
        if (joined_room < size + c->stream.size) {
            joined_room = 2 * (size + c->stream.size);
            joined = realloc(joined, joined_room);
            must(joined != NULL, "realloc");
        }
        if (c->stream.size) memcpy(joined, c->stream.at, c->stream.size);
        streamed = c->stream.size;
    }
    while (c->state != DEAD && size - done >= 2) {
        const unsigned char *f = p + done;
        size_t head = 2, length = f[1] & 0x7F;
        if (length == 126) {
            head = 4;
            if (size - done < head) break;
            length = (size_t)(f[2] << 8 | f[3]);
        } else if (length == 127) {
            head = 10;
            if (size - done < head) break;
            length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | f[i];
        }
        if (size - done < head + length) break;
        int opcode = f[0] & 0x0F;
        if (dialect.stream && opcode < 3) {
            round_.frames++;
            memcpy(joined + streamed, f + head, length);
            streamed += length;
        } else {
            take_frame(c, opcode, f + head, length, now);
        }
        done += head + length;
    }
    if (dialect.stream && c->state != DEAD) take_stream(c, streamed, now);
    return done;
}

static size_t take_upgrade(client *c, unsigned char *p, size_t size) {
    unsigned char *end = memmem(p, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (size < 12 || memcmp(p + 8, " 101", 4)) {
        p[size < 80 ? size - 1 : 80] = 0;
        die(c, (const char *)p);
        return 0;
    }
    c->state = TALKING;
    enter(c, 0);
    return (size_t)(end + 4 - p);
}

static void readable(client *c) {
    size_t have = c->rest.size, done = 0;
    if (have + READ_BYTES / 2 > READ_BYTES) { die(c, "a frame is too long"); return; }
    if (have) memcpy(buffer, c->rest.at, have);
    ssize_t got = recv(c->fd, buffer + have, READ_BYTES - have - 1, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { die(c, got ? strerror(errno) : "end of stream"); return; }
    int64_t now = now_us();
    size_t size = have + (size_t)got;
    round_.reads++;
    round_.bytes += got;
    if (c->state == UPGRADING) done = take_upgrade(c, buffer, size);
    if (c->state == TALKING || c->state == READY)
        done += take_frames(c, buffer + done, size - done, now);
    if (c->state != DEAD) {
        if (size - done) keep(&c->rest, buffer + done, size - done);
        else c->rest.size = 0;
    }
}

static void writable(client *c) {
    char request[4096], path[512], header[2048];
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) { die(c, strerror(error)); return; }
    size_t path_size = with_index(&dialect.path, c->index, path, sizeof path);
    size_t header_size = with_index(&dialect.header, c->index, header, sizeof header);
    int size = snprintf(request, sizeof request,
        "GET %.*s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%.*s\r\n",
        (int)path_size, path, storm.port, (int)header_size, header);
    c->state = UPGRADING;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)c->index};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    put(c, request, (size_t)size);
}

static void open_one(void) {
    if (client_count == client_room) {
        client_room = client_room ? client_room * 2 : 1024;
        clients = realloc(clients, sizeof *clients * (size_t)client_room);
        must(clients != NULL, "realloc");
    }
    client *c = &clients[client_count];
    *c = (client){.index = client_count, .started_us = now_us()};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    must(c->fd >= 0, "socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)storm.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)c->index};
    must(!epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event), "epoll_ctl");
    client_count++;
    storm.begun++;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        die(c, strerror(errno));
}

static int wanted_count;

static void connect_more(void) {
    /* Never called while `clients` may move under a caller: room is made before. */
    while (storm.active && client_count < wanted_count &&
           client_count - ready_count - dead_count < storm.parallel)
        open_one();
}

/* -- commands ------------------------------------------------------------------------ */

static const char *text_of(const char *line, const char *name) {
    static char value[16384];
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %s=", name);
    const char *at = strstr(line, wanted);
    if (!at) return "";
    at += strlen(wanted);
    size_t size = strcspn(at, " \n");
    if (size >= sizeof value) size = sizeof value - 1;
    memcpy(value, at, size);
    value[size] = 0;
    return value;
}

static int64_t number_of(const char *line, const char *name) {
    return strtoll(text_of(line, name), NULL, 10);
}

static bytes bytes_of(const char *line, const char *name) {
    const char *hex = text_of(line, name);
    bytes made = {.size = strlen(hex) / 2, .room = strlen(hex) / 2};
    made.at = malloc(made.size + 1);
    for (size_t i = 0; i < made.size; i++) {
        unsigned value = 0;
        sscanf(hex + 2 * i, "%2x", &value);
        made.at[i] = (char)value;
    }
    return made;
}

static void do_expect(const char *line) {
    memset(&round_, 0, sizeof round_);
    memset(&delays, 0, sizeof delays);
    disordered = malformed = unexpected = 0;
    round_.active = 1;
    round_.first = number_of(line, "first");
    round_.messages = number_of(line, "messages");
    round_.size = number_of(line, "size");
    round_.began_us = now_us();
    round_.cpu_s = cpu_s();
    filler = realloc(filler, (size_t)round_.size);
    memset(filler, 'x', (size_t)round_.size);
    memcpy(filler + round_.size - FILLER_AT - 2, "\"}", 2);
    mark_at = 0;
    for (int i = 0; i < client_count; i++) {
        clients[i].next = round_.first;
        clients[i].got = 0;
    }
    printf("{\"sockets\":%d}\n", ready_count);
    fflush(stdout);
}

static void do_connect(const char *line) {
    memset(&handshakes, 0, sizeof handshakes);
    storm.port = (int)number_of(line, "port");
    storm.parallel = (int)number_of(line, "parallel");
    wanted_count = client_count + (int)number_of(line, "sockets");
    storm.began_us = now_us();
    storm.deadline_us = storm.began_us + number_of(line, "timeout_ms") * 1000;
    storm.active = 1;
    round_.cpu_s = cpu_s();
    while (client_room < wanted_count) {
        client_room = client_room ? client_room * 2 : 1024;
        clients = realloc(clients, sizeof *clients * (size_t)client_room);
        must(clients != NULL, "realloc");
    }
    connect_more();
}

static void done(void) {
    printf("{}\n");
    fflush(stdout);
}

static void obey(const char *line) {
    if (!strncmp(line, "dialect ", 8)) {
        memset(&dialect, 0, sizeof dialect);
        dialect.path = bytes_of(line, "path");
        dialect.header = bytes_of(line, "header");
        dialect.ping = bytes_of(line, "ping");
        dialect.pong = bytes_of(line, "pong");
        dialect.stream = (int)number_of(line, "stream");
        done();
    } else if (!strncmp(line, "step ", 5) && dialect.steps < STEPS) {
        dialect.step[dialect.steps].send = bytes_of(line, "send");
        dialect.step[dialect.steps].wait = bytes_of(line, "wait");
        dialect.step[dialect.steps++].count = (int)number_of(line, "count");
        done();
    } else if (!strncmp(line, "connect ", 8)) {
        do_connect(line);
    } else if (!strncmp(line, "expect ", 7)) {
        do_expect(line);
    } else if (!strncmp(line, "collect ", 8)) {
        round_.collecting = 1;
        round_.deadline_us = now_us() + number_of(line, "timeout_ms") * 1000;
    } else if (!strncmp(line, "drop", 4)) {
        for (int i = 0; i < client_count; i++) die(&clients[i], NULL);
        client_count = ready_count = dead_count = 0;
        closed = 0;
        last_error[0] = 0;
        done();
    } else {
        printf("{\"error\":\"unknown command\"}\n");
        fflush(stdout);
    }
}

static void obey_all(void) {
    static char input[1 << 16];
    static size_t size;
    ssize_t got = read(0, input + size, sizeof input - size - 1);
    if (got <= 0) exit(0);
    size += (size_t)got;
    input[size] = 0;
    char *begin = input, *end;
    while ((end = strchr(begin, '\n'))) {
        *end = 0;
        obey(begin);
        begin = end + 1;
    }
    size -= (size_t)(begin - input);
    memmove(input, begin, size);
}

static void look_at_the_clock(void) {
    if (!storm.active && !round_.collecting) return;
    int64_t now = now_us();
    if (storm.active) {
        connect_more();
        if (ready_count + dead_count >= wanted_count || now > storm.deadline_us)
            answer_connect(now > storm.deadline_us);
    }
    if (round_.collecting) {
        int is_late = now > round_.deadline_us;
        if (round_.complete + dead_count >= client_count || is_late) answer_collect(is_late);
    }
}

int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    buffer = malloc(READ_BYTES);
    poller = epoll_create1(0);
    must(buffer && poller >= 0, "epoll_create1");
    struct epoll_event input = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    must(!epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input), "epoll_ctl");
    done();
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poller, events, EVENTS, 20);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u32 == UINT32_MAX) { obey_all(); continue; }
            client *c = &clients[events[i].data.u32];
            /* `drop` may have made this event one of the past. */
            if ((int)events[i].data.u32 >= client_count || c->state == DEAD) continue;
            if (c->state == CONNECTING) writable(c); else readable(c);
        }
        look_at_the_clock();
    }
}
