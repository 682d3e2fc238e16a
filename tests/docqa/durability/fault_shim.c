/* A disk that fails, or a process that dies, at the n-th step below one folder.
 *
 * Loaded with LD_PRELOAD and driven through `fault_arm`. A step is a call that changes a file: write,
 * fsync, rename, truncate, unlink. Whatever library makes the call (SQLite, tantivy, Python), it goes
 * through here. Linux only: a descriptor's path is read from /proc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, FAIL_ONCE, FAIL_EVER, KILL, TEAR };

static char root[PATH_MAX];
static size_t root_length;
static long target;
static int mode, failure;
static atomic_long n_steps;

/* `at` counts from 1; TEAR: half of the bytes are written, then the process dies. */
void fault_arm(const char *folder, long at, int how, int error) {
    root_length = 0;
    atomic_store(&n_steps, 0);
    target = at;
    mode = how;
    failure = error;
    strncpy(root, folder, sizeof root - 1);
    root_length = strlen(root);
}

long fault_steps(void) { return atomic_load(&n_steps); }

static int is_below(const char *path) {
    return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int is_ours(int descriptor) {
    char link[64], path[PATH_MAX];
    if (!root_length)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0)
        return 0;
    path[n] = 0;
    return is_below(path);
}

static int is_path_ours(int folder, const char *path) {
    char full[PATH_MAX];
    if (!root_length)
        return 0;
    if (path[0] == '/')
        return is_below(path);
    if (folder != AT_FDCWD)
        return is_ours(folder);
    return realpath(path, full) && is_below(full);
}

/* Count a step; return whether it fails, with errno set. Does not return from a KILL. */
static int step(void) {
    long at = atomic_fetch_add(&n_steps, 1) + 1;
    if (mode == KILL && at == target)
        kill(getpid(), SIGKILL), pause();
    if ((mode == FAIL_ONCE && at == target) || (mode == FAIL_EVER && at >= target)) {
        errno = failure;
        return 1;
    }
    return 0;
}

static int is_torn(void) { return mode == TEAR && atomic_load(&n_steps) == target; }

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define WRITER(name, parameters, half, whole)                          \
    ssize_t name parameters {                                          \
        REAL(name);                                                    \
        if (is_ours(descriptor)) {                                     \
            if (step()) return -1;                                     \
            if (is_torn()) { half; kill(getpid(), SIGKILL); pause(); } \
        }                                                              \
        return whole;                                                  \
    }

WRITER(write, (int descriptor, const void *data, size_t n), real(descriptor, data, n / 2), real(descriptor, data, n))
WRITER(pwrite, (int descriptor, const void *data, size_t n, off_t at), real(descriptor, data, n / 2, at), real(descriptor, data, n, at))
WRITER(pwrite64, (int descriptor, const void *data, size_t n, off64_t at), real(descriptor, data, n / 2, at), real(descriptor, data, n, at))
WRITER(writev, (int descriptor, const struct iovec *parts, int n), real(descriptor, parts, n / 2), real(descriptor, parts, n))

#define ON_DESCRIPTOR(name, parameters, whole)         \
    int name parameters {                              \
        REAL(name);                                    \
        if (is_ours(descriptor) && step()) return -1;  \
        return whole;                                  \
    }

ON_DESCRIPTOR(fsync, (int descriptor), real(descriptor))
ON_DESCRIPTOR(fdatasync, (int descriptor), real(descriptor))
ON_DESCRIPTOR(ftruncate, (int descriptor, off_t n), real(descriptor, n))
ON_DESCRIPTOR(ftruncate64, (int descriptor, off64_t n), real(descriptor, n))

#define ON_PATH(name, parameters, folder, path, whole)        \
    int name parameters {                                     \
        REAL(name);                                           \
        if (is_path_ours(folder, path) && step()) return -1;  \
        return whole;                                         \
    }

ON_PATH(rename, (const char *from, const char *to), AT_FDCWD, to, real(from, to))
ON_PATH(renameat, (int a, const char *from, int b, const char *to), b, to, real(a, from, b, to))
ON_PATH(renameat2, (int a, const char *from, int b, const char *to, unsigned flags), b, to, real(a, from, b, to, flags))
ON_PATH(unlink, (const char *path), AT_FDCWD, path, real(path))
ON_PATH(unlinkat, (int a, const char *path, int flags), a, path, real(a, path, flags))
