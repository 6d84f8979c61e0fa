/* Stands between a process and the calls that change files, for the files of one folder. Loaded with LD_PRELOAD.
 *
 * Three things, each of which may be on or off:
 *   log    every change goes to a log, in the order in which it took effect, so that any crash can be rebuilt from it;
 *   fail   the n-th call of a class fails with a chosen error, once or from then on;
 *   hold   syncs wait until they are let go, as on a disk that stalls.
 * It is set through the exported functions at the end, from inside the process: a forked child is its own run.
 *
 * One mutex covers a call and its record, so the log's order is the order of effects. The files named -shm are mapped
 * memory that no recovery reads: they can fail, but are not logged. Linux, 64 bit. The system is called directly, so
 * that nothing needs to be looked up behind our own names.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 65536
#define NAMES_MAX 256
#define NAME_BYTES 128

enum { WRITE, SYNC, TRUNCATE, OPEN, UNLINK, CLASSES };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t let_go = PTHREAD_COND_INITIALIZER;

static char folder[4096];
static size_t folder_length; /* 0: nothing is watched */
static int log_fd = -1;
static char names[NAMES_MAX][NAME_BYTES];
static int names_count;
static int16_t name_of[FDS_MAX]; /* 1 + index into names; 0: not watched */

static long counts[CLASSES], fired;
static int fail_class = -1, fail_errno, fail_for_ever;
static long fail_nth;
static char spared[4096]; /* names that never fail and are not counted, each between two spaces */
static int hold, held;

struct record { /* as tests/shim/log.py reads it: little endian, then the name, then the data */
    uint8_t kind, name_length;
    uint16_t unused;
    uint32_t length;
    int64_t offset;
};

/* Return a path's name inside the watched folder, "." for the folder itself, NULL for anything else. */
static const char *name_in_folder(const char *path) {
    if (!folder_length || !path || strncmp(path, folder, folder_length)) return NULL;
    if (!path[folder_length]) return ".";
    return path[folder_length] == '/' ? path + folder_length + 1 : NULL;
}

static const char *name_of_fd(int fd) {
    return fd >= 0 && fd < FDS_MAX && name_of[fd] ? names[name_of[fd] - 1] : NULL;
}

static void remember(int fd, const char *name) {
    int at = 0;
    while (at < names_count && strcmp(names[at], name)) at++;
    if (fd >= FDS_MAX || at == NAMES_MAX || strlen(name) >= NAME_BYTES) abort(); /* a gap in the log shows nothing */
    if (at == names_count) strcpy(names[names_count++], name);
    name_of[fd] = at + 1;
}

static void put(char kind, const char *name, int64_t offset, const void *data, size_t length) {
    size_t name_length = strlen(name);
    if (log_fd < 0 || (name_length > 4 && !strcmp(name + name_length - 4, "-shm"))) return;
    struct record head = {kind, name_length, 0, length, offset};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)name, name_length}, {(void *)data, length}};
    if (writev(log_fd, parts, 3) != (ssize_t)(sizeof head + name_length + length)) abort();
}

/* Count a call, and return whether it is to fail; errno says how. */
static int fails(int class, const char *name) {
    char word[NAME_BYTES + 3] = " ";
    strncat(strncat(word, name, NAME_BYTES), " ", 2);
    if (strstr(spared, word)) return 0;
    counts[class]++;
    if (class != fail_class || counts[class] < fail_nth || (fired && !fail_for_ever)) return 0;
    fired++;
    errno = fail_errno;
    return 1;
}

/* -------------------------------------------------------------------- the calls */

static int any_open(int at, const char *path, int flags, mode_t mode) {
    const char *name = at == AT_FDCWD || (path && path[0] == '/') ? name_in_folder(path) : NULL;
    if (!name) return syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&lock);
    int fd = -1;
    if (!fails(OPEN, name)) {
        int existed = !syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
        fd = syscall(SYS_openat, at, path, flags, mode);
        if (fd >= 0) {
            remember(fd, name);
            if (!existed) put('C', name, 0, NULL, 0);
            else if (flags & O_TRUNC) put('T', name, 0, NULL, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

/* A write that fails with EIO has done half of its work; a full disk takes nothing. */
static ssize_t any_write(int fd, const void *data, size_t length, off_t offset) {
    const char *name = name_of_fd(fd);
    int at_position = offset < 0;
    if (!name) return at_position ? syscall(SYS_write, fd, data, length)
                                  : syscall(SYS_pwrite64, fd, data, length, offset);
    pthread_mutex_lock(&lock);
    int fail = fails(WRITE, name), error = errno;
    size_t wanted = !fail ? length : error == EIO ? length / 2 : 0;
    ssize_t done = !wanted && fail ? 0 : at_position ? syscall(SYS_write, fd, data, wanted)
                                                     : syscall(SYS_pwrite64, fd, data, wanted, offset);
    if (done > 0) put('W', name, at_position ? lseek(fd, 0, SEEK_CUR) - done : offset, data, done);
    if (fail) errno = error, done = -1;
    pthread_mutex_unlock(&lock);
    return done;
}

static int any_sync(int fd, long call) {
    const char *name = name_of_fd(fd);
    if (!name) return syscall(call, fd);
    pthread_mutex_lock(&lock);
    held++;
    while (hold) pthread_cond_wait(&let_go, &lock);
    held--;
    int fail = fails(SYNC, name), result = fail ? -1 : syscall(call, fd), error = errno;
    put(result ? 'F' : 'S', name, 0, NULL, 0);
    errno = error;
    pthread_mutex_unlock(&lock);
    return result;
}

static int any_truncate(int fd, off_t length) {
    const char *name = name_of_fd(fd);
    if (!name) return syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    int result = fails(TRUNCATE, name) ? -1 : syscall(SYS_ftruncate, fd, length);
    if (!result) put('T', name, length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

static int any_unlink(int at, const char *path, int flags) {
    const char *name = at == AT_FDCWD || (path && path[0] == '/') ? name_in_folder(path) : NULL;
    if (!name) return syscall(SYS_unlinkat, at, path, flags);
    pthread_mutex_lock(&lock);
    int result = fails(UNLINK, name) ? -1 : syscall(SYS_unlinkat, at, path, flags);
    if (!result) put('U', name, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

/* -------------------------------------------------------------------- their names */

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags) return any_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return any_open(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return any_open(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return any_open(at, path, flags, mode); }
ssize_t write(int fd, const void *data, size_t length) { return any_write(fd, data, length, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return any_write(fd, data, length, at); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return any_write(fd, data, length, at); }
int fsync(int fd) { return any_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return any_sync(fd, SYS_fdatasync); }
int ftruncate(int fd, off_t length) { return any_truncate(fd, length); }
int ftruncate64(int fd, off64_t length) { return any_truncate(fd, length); }
int unlink(const char *path) { return any_unlink(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return any_unlink(at, path, flags); }

int close(int fd) {
    if (fd >= 0 && fd < FDS_MAX) name_of[fd] = 0; /* before: the number may be another thread's file right after */
    return syscall(SYS_close, fd);
}

/* -------------------------------------------------------------------- settings */

/* Watch a folder from now on, and log its changes to a file outside it, unless that is NULL. Files open already don't
 * count. */
void shim_watch(const char *path, const char *log) {
    pthread_mutex_lock(&lock);
    if (strlen(path) >= sizeof folder) abort();
    strcpy(folder, path);
    folder_length = strlen(folder);
    if (log_fd >= 0) syscall(SYS_close, log_fd);
    log_fd = log ? syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (log && log_fd < 0) abort();
    pthread_mutex_unlock(&lock);
}

/* Fail the n-th call of a class, counted from now on: once, or for ever. A class of -1: none. */
void shim_fail(int class, long nth, int error, int for_ever) {
    pthread_mutex_lock(&lock);
    memset(counts, 0, sizeof counts);
    fired = 0;
    fail_class = class, fail_nth = nth, fail_errno = error, fail_for_ever = for_ever;
    pthread_mutex_unlock(&lock);
}

/* Spare these files: their names, each between two spaces. */
void shim_spare(const char *files) {
    pthread_mutex_lock(&lock);
    if (strlen(files) >= sizeof spared) abort();
    strcpy(spared, files);
    pthread_mutex_unlock(&lock);
}

/* Let calls succeed again; the counts stay. */
void shim_heal(void) {
    pthread_mutex_lock(&lock);
    fail_class = -1;
    pthread_mutex_unlock(&lock);
}

long shim_count(int class) { return counts[class]; }
long shim_fired(void) { return fired; }

/* Make syncs wait, or let them go. Returns how many were waiting. */
int shim_hold(int wait) {
    pthread_mutex_lock(&lock);
    int waiting = hold ? held : 0;
    hold = wait;
    pthread_cond_broadcast(&let_go);
    pthread_mutex_unlock(&lock);
    return waiting;
}
