/* Writes down where a process connects to, and which names of hosts it looks up. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void note(const char *line, int length) {
    const char *path = getenv("DUROXIDE_TEST_CONNECTS");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file < 0)
        return;
    if (write(file, line, (size_t)length) < 0)
        abort();
    close(file);
}

static void note_address(const struct sockaddr *address) {
    char line[256], host[INET6_ADDRSTRLEN] = "?";
    if (address && address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        note(line, snprintf(line, sizeof line, "connect %s %d\n", host, ntohs(in->sin_port)));
    } else if (address && address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        note(line, snprintf(line, sizeof line, "connect %s %d\n", host, ntohs(in->sin6_port)));
    } else if (address && address->sa_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)address;
        note(line, snprintf(line, sizeof line, "connect %.107s 0\n", un->sun_path));
    }
}

int connect(int file, const struct sockaddr *address, socklen_t length) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    note_address(address);
    return next(file, address, length);
}

ssize_t sendto(int file, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    note_address(address);
    return next(file, data, size, flags, address, length);
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    char line[512];
    note(line, snprintf(line, sizeof line, "look up %.400s\n", host ? host : "this machine"));
    return next(host, service, hints, found);
}
