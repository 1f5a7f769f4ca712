/*
 * Preloaded into an application under test: breaks calls on its -wal file at the test's word. The file that
 * TIDEMARK_TEST_FAULT names holds the order; while it is absent nothing happens.
 *   sync kill      die by SIGKILL in place of the fsync or fdatasync after frames (not of the WAL header)
 *   sync EIO       fail it; likewise sync ENOSPC
 *   write ENOSPC   fail a write; likewise write EIO
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define WAL_HEADER_BYTES 32

static size_t last_write;

static int is_wal(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  return length > 4 && memcmp(path + length - 4, "-wal", 4) == 0;
}

/* 1 when the order is to break `call`; errno is set, unless the order is to die. */
static int broken(int fd, const char *call) {
  const char *orders = getenv("TIDEMARK_TEST_FAULT");
  int saved = errno;
  char order[64] = "", name[16] = "", what[16] = "";
  if (!orders || !is_wal(fd)) return 0;
  int file = syscall(SYS_openat, AT_FDCWD, orders, O_RDONLY | O_CLOEXEC);
  if (file < 0) { errno = saved; return 0; }
  syscall(SYS_read, file, order, sizeof order - 1);
  syscall(SYS_close, file);
  errno = saved;
  if (sscanf(order, "%15s %15s", name, what) != 2 || strcmp(name, call) != 0) return 0;
  if (strcmp(what, "kill") == 0) kill(getpid(), SIGKILL);
  errno = strcmp(what, "ENOSPC") == 0 ? ENOSPC : EIO;
  return 1;
}

static int sync_broken(int fd) {
  return last_write != WAL_HEADER_BYTES && broken(fd, "sync");
}

int fsync(int fd) {
  return sync_broken(fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
  return sync_broken(fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

ssize_t write(int fd, const void *data, size_t size) {
  if (is_wal(fd)) last_write = size;
  return broken(fd, "write") ? -1 : syscall(SYS_write, fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
  if (is_wal(fd)) last_write = size;
  return broken(fd, "write") ? -1 : syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
  return pwrite64(fd, data, size, offset);
}
