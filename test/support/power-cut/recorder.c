/*
 * Preloaded into programs under test: writes down every effect that they have on the files below the directory
 * TIDEMARK_TEST_DISK, all of them in one order, in the journal TIDEMARK_TEST_DISK_JOURNAL (see disk-journal.ts).
 * A SQLite -shm does not survive a power cut and is left out. What could not be replayed is named (kind X).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* One record: this head, then the path, then the data (bytes written, or the second path of a rename). */
struct head {
  uint32_t path_bytes, data_bytes;
  uint64_t inode, at;
  uint32_t kind, pid;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;
static pid_t journal_of;
static uint64_t syncs;

static const char *disk(void) {
  static const char *directory;
  if (!directory) directory = getenv("TIDEMARK_TEST_DISK");
  return directory ? directory : "/nowhere";
}

static int recorded(const char *path) {
  size_t below = strlen(disk()), length = strlen(path);
  if (strncmp(path, disk(), below) != 0 || (path[below] != '/' && path[below] != 0)) return 0;
  return length < 4 || strcmp(path + length - 4, "-shm") != 0;
}

static int fd_path(int fd, char *path) {
  char link[64];
  int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
  errno = saved;
  if (length <= 0) return 0;
  path[length] = 0;
  return recorded(path);
}

static int name_path(int at, const char *name, char *path) {
  if (name[0] == '/') snprintf(path, PATH_MAX, "%s", name);
  else {
    char directory[PATH_MAX];
    if (at != AT_FDCWD ? !fd_path(at, directory) : !getcwd(directory, sizeof directory)) return 0;
    snprintf(path, PATH_MAX, "%s/%s", directory, name);
  }
  return recorded(path);
}

/* The order of the journal is that of the effects: nobody else has one between the call and its record. */
static void lock(void) {
  int saved = errno;
  pthread_mutex_lock(&mutex);
  if (journal_of != getpid()) {
    int fd = syscall(SYS_openat, AT_FDCWD, getenv("TIDEMARK_TEST_DISK_JOURNAL"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    journal = fcntl(fd, F_DUPFD_CLOEXEC, 700);
    syscall(SYS_close, fd);
    journal_of = getpid();
  }
  while (flock(journal, LOCK_EX) != 0) {}
  errno = saved;
}

static void unlock(void) {
  int saved = errno;
  flock(journal, LOCK_UN);
  pthread_mutex_unlock(&mutex);
  errno = saved;
}

static void note_data(char kind, uint64_t inode, uint64_t at, const char *path, const struct iovec *data, int parts) {
  int saved = errno;
  struct head head = {strlen(path), 0, inode, at, kind, getpid()};
  struct iovec all[2 + IOV_MAX] = {{&head, sizeof head}, {(void *)path, head.path_bytes}};
  for (int i = 0; i < parts; i++) {
    all[2 + i] = data[i];
    head.data_bytes += data[i].iov_len;
  }
  syscall(SYS_writev, journal, all, 2 + parts);
  errno = saved;
}

static void note(char kind, uint64_t inode, uint64_t at, const char *path, const char *data) {
  struct iovec one = {(void *)(data ? data : ""), data ? strlen(data) : 0};
  note_data(kind, inode, at, path, &one, 1);
}

static void unknown(const char *call, const char *path) {
  lock();
  note('X', 0, 0, path, call);
  unlock();
}

static uint64_t inode_of(int fd) {
  struct stat found;
  int saved = errno;
  int failed = fstat(fd, &found);
  errno = saved;
  return failed ? 0 : found.st_ino;
}

static int do_open(int at, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  int changes = (flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE;
  if (!changes || !name_path(at, name, path)) return syscall(SYS_openat, at, name, flags, mode);
  lock();
  struct stat found;
  int saved = errno;
  int there = stat(path, &found) == 0;
  errno = saved;
  int fd = syscall(SYS_openat, at, name, flags, mode);
  if (fd >= 0 && !there) note('C', inode_of(fd), 0, path, NULL);
  else if (fd >= 0 && (flags & O_TRUNC)) note('T', inode_of(fd), 0, path, NULL);
  unlock();
  return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                     \
  int name(const char *path, int flags, ...) {         \
    va_list arguments;                                 \
    va_start(arguments, flags);                        \
    mode_t mode = mode_of(flags, arguments);           \
    va_end(arguments);                                 \
    return do_open(AT_FDCWD, path, flags, mode);       \
  }
#define OPENAT(name)                                   \
  int name(int at, const char *path, int flags, ...) { \
    va_list arguments;                                 \
    va_start(arguments, flags);                        \
    mode_t mode = mode_of(flags, arguments);           \
    va_end(arguments);                                 \
    return do_open(at, path, flags, mode);             \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* at < 0: at the descriptor's own position. */
static ssize_t do_write(int fd, const struct iovec *parts, int count, off64_t at) {
  char path[PATH_MAX];
  int ours = fd_path(fd, path);
  if (ours) lock();
  ssize_t done = at < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, at, 0L);
  if (!ours) return done;
  if (done > 0) {
    struct iovec written[IOV_MAX];
    ssize_t left = done;
    int used = 0;
    for (; used < count && left > 0; used++) {
      written[used] = parts[used];
      if ((ssize_t)written[used].iov_len > left) written[used].iov_len = left;
      left -= written[used].iov_len;
    }
    off64_t start = at < 0 ? lseek64(fd, 0, SEEK_CUR) - done : at;
    note_data('W', inode_of(fd), start, path, written, used);
  }
  unlock();
  return done;
}

ssize_t write(int fd, const void *data, size_t size) {
  struct iovec one = {(void *)data, size};
  return do_write(fd, &one, 1, -1);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  struct iovec one = {(void *)data, size};
  return do_write(fd, &one, 1, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return do_write(fd, parts, count, -1); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return do_write(fd, parts, count, at); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return do_write(fd, parts, count, at); }

int ftruncate64(int fd, off64_t size) {
  char path[PATH_MAX];
  if (!fd_path(fd, path)) return syscall(SYS_ftruncate, fd, size);
  lock();
  int result = syscall(SYS_ftruncate, fd, size);
  if (result == 0) note('T', inode_of(fd), size, path, NULL);
  unlock();
  return result;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* What is written while the sync runs need not be covered by it. */
static int do_sync(long call, int fd) {
  char path[PATH_MAX];
  if (!fd_path(fd, path)) return syscall(call, fd);
  lock();
  uint64_t token = (uint64_t)getpid() << 32 | ++syncs;
  note('B', inode_of(fd), token, path, NULL);
  unlock();
  int result = syscall(call, fd);
  lock();
  if (result == 0) note('E', inode_of(fd), token, path, NULL);
  unlock();
  return result;
}
int fsync(int fd) { return do_sync(SYS_fsync, fd); }
int fdatasync(int fd) { return do_sync(SYS_fdatasync, fd); }

static int do_unlink(int at, const char *name, int flags) {
  char path[PATH_MAX];
  if (!name_path(at, name, path)) return syscall(SYS_unlinkat, at, name, flags);
  lock();
  int result = syscall(SYS_unlinkat, at, name, flags);
  if (result == 0) note('U', 0, 0, path, NULL);
  unlock();
  return result;
}
int unlink(const char *name) { return do_unlink(AT_FDCWD, name, 0); }
int unlinkat(int at, const char *name, int flags) { return do_unlink(at, name, flags); }
int rmdir(const char *name) { return do_unlink(AT_FDCWD, name, AT_REMOVEDIR); }
int remove(const char *name) {
  int result = unlink(name);
  return result != 0 && errno == EISDIR ? rmdir(name) : result;
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
  char from_path[PATH_MAX], to_path[PATH_MAX];
  int from_ours = name_path(from_at, from, from_path), to_ours = name_path(to_at, to, to_path);
  if (!from_ours && !to_ours) return syscall(SYS_renameat2, from_at, from, to_at, to, flags);
  if (!from_ours || !to_ours || flags != 0) unknown("rename", from_path);
  lock();
  int result = syscall(SYS_renameat2, from_at, from, to_at, to, flags);
  if (result == 0) note('R', 0, 0, from_path, to_path);
  unlock();
  return result;
}
int renameat(int from_at, const char *from, int to_at, const char *to) { return renameat2(from_at, from, to_at, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int mkdir(const char *name, mode_t mode) {
  char path[PATH_MAX];
  if (!name_path(AT_FDCWD, name, path)) return syscall(SYS_mkdirat, AT_FDCWD, name, mode);
  lock();
  int result = syscall(SYS_mkdirat, AT_FDCWD, name, mode);
  struct stat found;
  if (result == 0 && stat(path, &found) == 0) note('M', found.st_ino, 0, path, NULL);
  unlock();
  return result;
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t at) {
  char path[PATH_MAX];
  int shared = (flags & MAP_SHARED) && (protection & PROT_WRITE);
  if (shared && fd >= 0 && fd_path(fd, path)) unknown("mmap", path);
  return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, at);
}
int link(const char *from, const char *to) {
  unknown("link", to);
  return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int symlink(const char *target, const char *name) {
  unknown("symlink", name);
  return syscall(SYS_symlinkat, target, AT_FDCWD, name);
}
int truncate(const char *name, off_t size) {
  unknown("truncate", name);
  return syscall(SYS_truncate, name, size);
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) {
  char path[PATH_MAX];
  if (fd_path(out, path)) unknown("sendfile", path);
  return syscall(SYS_sendfile, out, in, at, size);
}
ssize_t sendfile(int out, int in, off_t *at, size_t size) { return sendfile64(out, in, at, size); }
