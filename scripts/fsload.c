/*
 * fsload: a small, fixed load on a directory tree, the same for every
 * filesystem that is measured.
 *
 *   fsload walk DIR               lstat each entry as soon as readdir names it
 *   fsload walk2 DIR              read a directory to its end, then lstat its
 *                                 entries, as find and ls do
 *   fsload cat DIR [THREADS]      read every regular file to its end in 128 KiB
 *                                 reads, in the order in which a walk meets them
 *   fsload rand DIR N SEED BYTES  N times: open a file, pread BYTES at a random
 *                                 offset, close; every byte of the tree is
 *                                 equally likely to be hit
 *   fsload sum DIR                a digest of types, modes, owners, sizes, times,
 *                                 link counts, link targets and contents, in
 *                                 order of names
 *
 * Prints one line of key=value pairs; a key ends in its unit. Exits with 1 if
 * anything could not be read, 2 if called wrongly.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 128 * 1024, THREADS_MAX = 64, PAGE_BYTES = 4096 };

struct file {
	char *path;
	uint64_t bytes;
};

/* What a walk found. Files are in the order in which the walk met them. */
static struct file *files;
static size_t file_count, file_room;
static size_t entry_count, dir_count, link_count;
static size_t errors;

static double seconds_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *must(void *memory)
{
	if (!memory) {
		fputs("fsload: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

static void complain(const char *what, const char *path)
{
	fprintf(stderr, "fsload: %s %s: %s\n", what, path, strerror(errno));
	__atomic_add_fetch(&errors, 1, __ATOMIC_RELAXED);
}

static char *joined(const char *dir, const char *name)
{
	char *path;
	if (asprintf(&path, "%s/%s", dir, name) < 0)
		must(NULL);
	return path;
}

static int is_dot(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* --- walk ---------------------------------------------------------------- */

static void walk(const char *dir, int read_first);

static void visit(char *path, int read_first)
{
	struct stat st;

	if (lstat(path, &st)) {
		complain("lstat", path);
		return;
	}
	entry_count++;
	if (S_ISDIR(st.st_mode)) {
		walk(path, read_first);
	} else if (S_ISLNK(st.st_mode)) {
		link_count++;
	} else if (S_ISREG(st.st_mode)) {
		if (file_count == file_room) {
			file_room = file_room ? 2 * file_room : 1024;
			files = must(realloc(files, file_room * sizeof *files));
		}
		files[file_count++] = (struct file){ must(strdup(path)), (uint64_t)st.st_size };
	}
}

static void walk(const char *dir, int read_first)
{
	char **later = NULL;
	size_t count = 0, room = 0;
	struct dirent *entry;
	DIR *stream = opendir(dir);

	if (!stream) {
		complain("opendir", dir);
		return;
	}
	dir_count++;
	while (errno = 0, (entry = readdir(stream))) {
		if (is_dot(entry->d_name))
			continue;
		char *path = joined(dir, entry->d_name);
		if (!read_first) {
			visit(path, read_first);
			free(path);
			continue;
		}
		if (count == room) {
			room = room ? 2 * room : 64;
			later = must(realloc(later, room * sizeof *later));
		}
		later[count++] = path;
	}
	if (errno)
		complain("readdir", dir);
	closedir(stream);
	for (size_t i = 0; i < count; i++) {
		visit(later[i], read_first);
		free(later[i]);
	}
	free(later);
}

static void print_walk(const char *dir, int read_first)
{
	double began = seconds_now();
	walk(dir, read_first);
	printf("walk_s=%.4f entries=%zu dirs=%zu symlinks=%zu files=%zu errors=%zu\n",
	       seconds_now() - began, entry_count, dir_count, link_count, file_count, errors);
}

/* --- cat ----------------------------------------------------------------- */

static size_t next_file;
static uint64_t bytes_read;

static void *cat_files(void *unused)
{
	char *buffer = must(malloc(READ_BYTES));
	uint64_t bytes = 0;
	size_t i;

	while ((i = __atomic_fetch_add(&next_file, 1, __ATOMIC_RELAXED)) < file_count) {
		ssize_t n;
		int fd = open(files[i].path, O_RDONLY);
		if (fd < 0) {
			complain("open", files[i].path);
			continue;
		}
		while ((n = read(fd, buffer, READ_BYTES)) > 0)
			bytes += (uint64_t)n;
		if (n < 0)
			complain("read", files[i].path);
		close(fd);
	}
	__atomic_add_fetch(&bytes_read, bytes, __ATOMIC_RELAXED);
	free(buffer);
	return unused;
}

static void print_cat(const char *dir, int threads)
{
	pthread_t thread[THREADS_MAX];
	double began, walked, done;

	began = seconds_now();
	walk(dir, 0);
	walked = seconds_now();
	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, cat_files, NULL))
			must(NULL);
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	done = seconds_now();
	printf("cat_s=%.4f walk_s=%.4f threads=%d files=%zu bytes=%llu mb_per_s=%.1f errors=%zu\n",
	       done - walked, walked - began, threads, file_count, (unsigned long long)bytes_read,
	       (double)bytes_read / 1e6 / (done - walked), errors);
}

/* --- rand ---------------------------------------------------------------- */

static uint64_t random_state;

/* xorshift64: Marsaglia, "Xorshift RNGs", 2003. */
static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The file that holds byte `at` of all files one after the other. */
static size_t file_at(const uint64_t *starts, uint64_t at)
{
	size_t low = 0, high = file_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (starts[middle] <= at)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static double one_read(const char *path, off_t offset, char *buffer, size_t bytes)
{
	double began = seconds_now();
	int fd = open(path, O_RDONLY);

	if (fd < 0) {
		complain("open", path);
	} else {
		if (pread(fd, buffer, bytes, offset) < 0)
			complain("read", path);
		close(fd);
	}
	return (seconds_now() - began) * 1e6;
}

static int print_rand(const char *dir, size_t count, uint64_t seed, size_t bytes)
{
	uint64_t *starts;
	double *took_us, sum_us = 0;
	char *buffer;

	walk(dir, 0);
	starts = must(calloc(file_count + 1, sizeof *starts));
	for (size_t i = 0; i < file_count; i++)
		starts[i + 1] = starts[i] + files[i].bytes;
	if (!starts[file_count]) {
		fprintf(stderr, "fsload: %s holds no file with a byte in it\n", dir);
		return 1;
	}
	took_us = must(calloc(count, sizeof *took_us));
	buffer = must(malloc(bytes));
	random_state = seed * 2654435761u + 1;
	for (size_t i = 0; i < count; i++) {
		uint64_t at = random_next() % starts[file_count];
		size_t n = file_at(starts, at);
		uint64_t offset = (at - starts[n]) / PAGE_BYTES * PAGE_BYTES;
		took_us[i] = one_read(files[n].path, (off_t)offset, buffer, bytes);
		sum_us += took_us[i];
	}
	qsort(took_us, count, sizeof *took_us, by_value);
	printf("mean_us=%.1f p50_us=%.1f p90_us=%.1f p99_us=%.1f max_us=%.1f reads=%zu errors=%zu\n",
	       sum_us / (double)count, took_us[count / 2], took_us[count * 9 / 10],
	       took_us[count * 99 / 100], took_us[count - 1], count, errors);
	return 0;
}

/* --- sum ----------------------------------------------------------------- */

static uint64_t digest = 14695981039346656037u;

/* FNV-1a, 64 bits: a digest against accidents, not against malice. */
static void digest_add(const void *data, size_t bytes)
{
	for (const unsigned char *p = data; bytes; p++, bytes--) {
		digest ^= *p;
		digest *= 1099511628211u;
	}
}

static void digest_file(const char *path)
{
	static char buffer[READ_BYTES];
	ssize_t n;
	int fd = open(path, O_RDONLY);

	if (fd < 0) {
		complain("open", path);
		return;
	}
	while ((n = read(fd, buffer, sizeof buffer)) > 0) {
		digest_add(buffer, (size_t)n);
		bytes_read += (uint64_t)n;
	}
	if (n < 0)
		complain("read", path);
	close(fd);
}

static void digest_link(const char *path)
{
	char target[PAGE_BYTES];
	ssize_t n = readlink(path, target, sizeof target);

	if (n < 0)
		complain("readlink", path);
	else
		digest_add(target, (size_t)n);
}

/* A directory's size, time and link count depend on how it was made: left out. */
static void digest_entry(const char *name, const struct stat *st)
{
	int dir = S_ISDIR(st->st_mode);
	int device = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
	uint64_t facts[] = {
		st->st_mode,
		st->st_uid,
		st->st_gid,
		S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0,
		dir ? 0 : (uint64_t)st->st_mtim.tv_sec,
		dir ? 0 : (uint64_t)st->st_nlink,
		device ? st->st_rdev : 0,
	};

	digest_add(name, strlen(name) + 1);
	digest_add(facts, sizeof facts);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void digest_dir(const char *dir)
{
	struct dirent **names;
	int count = scandir(dir, &names, NULL, by_name);

	if (count < 0) {
		complain("scandir", dir);
		return;
	}
	digest_add("(", 1);
	for (int i = 0; i < count; i++) {
		struct stat st;
		char *path = joined(dir, names[i]->d_name);
		if (is_dot(names[i]->d_name)) {
			/* not an entry */
		} else if (lstat(path, &st)) {
			complain("lstat", path);
		} else {
			entry_count++;
			digest_entry(names[i]->d_name, &st);
			if (S_ISDIR(st.st_mode))
				digest_dir(path);
			else if (S_ISREG(st.st_mode))
				digest_file(path);
			else if (S_ISLNK(st.st_mode))
				digest_link(path);
		}
		free(path);
		free(names[i]);
	}
	digest_add(")", 1);
	free(names);
}

static void print_sum(const char *dir)
{
	digest_dir(dir);
	printf("sum=%016llx entries=%zu bytes=%llu errors=%zu\n", (unsigned long long)digest,
	       entry_count, (unsigned long long)bytes_read, errors);
}

int main(int argc, char **argv)
{
	const char *load = argc > 2 ? argv[1] : "", *dir = argc > 2 ? argv[2] : "";
	int threads = argc > 3 ? atoi(argv[3]) : 1;

	if (!strcmp(load, "walk") && argc == 3) {
		print_walk(dir, 0);
	} else if (!strcmp(load, "walk2") && argc == 3) {
		print_walk(dir, 1);
	} else if (!strcmp(load, "sum") && argc == 3) {
		print_sum(dir);
	} else if (!strcmp(load, "cat") && argc <= 4 && threads >= 1 && threads <= THREADS_MAX) {
		print_cat(dir, threads);
	} else if (!strcmp(load, "rand") && argc == 6 && atol(argv[3]) > 0 && atol(argv[5]) > 0) {
		if (print_rand(dir, strtoul(argv[3], NULL, 10), strtoull(argv[4], NULL, 10),
			       strtoul(argv[5], NULL, 10)))
			return 1;
	} else {
		fputs("usage: fsload walk|walk2|sum DIR\n"
		      "       fsload cat DIR [THREADS]\n"
		      "       fsload rand DIR COUNT SEED BYTES\n", stderr);
		return 2;
	}
	return errors != 0;
}
