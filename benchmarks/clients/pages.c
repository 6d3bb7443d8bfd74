/* Many HTTP clients in one process: pages PORT PATH CLIENTS KEEPALIVE MILLISECONDS
 *
 * Each client asks for the page, reads the whole answer by its Content-Length, and asks
 * again: on the same connection, or (KEEPALIVE 0) on a new one. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 17, MOST = 4000000 };

typedef struct { int fd, is_open; size_t got; int64_t began_us; char *at; } client;

static int poller, port, keeps;
static char request[2048];
static size_t request_size;
static int64_t *delays;
static size_t answered, failed;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void ask(client *c) {
    c->got = 0;
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) failed++;
}

static void dial(client *c, uint32_t index) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    c->is_open = 0;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = index};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) failed++;
}

/* Bytes of a whole answer; 0 while its head is not whole. */
static size_t whole(client *c) {
    c->at[c->got] = 0;
    char *end = strstr(c->at, "\r\n\r\n"), *length = strcasestr(c->at, "\r\ncontent-length:");
    if (!end || !length || length > end) return 0;
    return (size_t)(end + 4 - c->at) + strtoul(length + 17, NULL, 10);
}

static void take(client *c, uint32_t index) {
    ssize_t got = recv(c->fd, c->at + c->got, ROOM - c->got - 1, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got > 0) {
        c->got += (size_t)got;
        size_t wanted = whole(c);
        if (!wanted || c->got < wanted) return;
        if (strncmp(c->at + 8, " 200", 4)) failed++;
        else if (answered < MOST) delays[answered++] = now_us() - c->began_us;
        c->began_us = now_us();
        if (keeps) { ask(c); return; }
    } else {
        failed++;
        c->began_us = now_us();
    }
    close(c->fd);
    dial(c, index);
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int count, char **arguments) {
    if (count != 6) return 2;
    port = atoi(arguments[1]);
    int clients = atoi(arguments[3]);
    keeps = atoi(arguments[4]);
    int64_t lasts_us = atoll(arguments[5]) * 1000;
    request_size = (size_t)snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: %s\r\n\r\n", arguments[2],
        port, keeps ? "keep-alive" : "close");
    delays = malloc(sizeof *delays * MOST);
    poller = epoll_create1(0);
    client *all = calloc((size_t)clients, sizeof *all);
    if (!delays || !all || poller < 0) return 1;
    int64_t began = now_us();
    for (int i = 0; i < clients; i++) {
        all[i].at = malloc(ROOM);
        all[i].began_us = began;
        dial(&all[i], (uint32_t)i);
    }
    while (now_us() - began < lasts_us) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, 50);
        for (int i = 0; i < ready; i++) {
            client *c = &all[events[i].data.u32];
            if (c->is_open) { take(c, events[i].data.u32); continue; }
            c->is_open = 1;
            struct epoll_event event = {.events = EPOLLIN, .data.u32 = events[i].data.u32};
            epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
            ask(c);
        }
    }
    double took = (double)(now_us() - began) / 1e6;
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    qsort(delays, answered, sizeof *delays, compare);
    printf("{\"requests\":%zu,\"failed\":%zu,\"took_s\":%.6f,\"cpu_s\":%.6f,\"p50\":%.3f,"
           "\"p99\":%.3f,\"max\":%.3f}\n",
           answered, failed, took, (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9,
           answered ? (double)delays[answered / 2] / 1000 : 0.0,
           answered ? (double)delays[answered * 99 / 100] / 1000 : 0.0,
           answered ? (double)delays[answered - 1] / 1000 : 0.0);
    return 0;
}
