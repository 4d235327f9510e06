/* A disk that fails: a layer over SQLite's default file system.
 *
 * Each file of ours is followed in memory by the real one, to which everything is passed on. The counters are shared by
 * all threads. */
#include "tests/contract/faulty_vfs.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stddef.h>

struct file {
	sqlite3_file base;
	sqlite3_io_methods methods;
	/* the real file's bytes follow */
};

static sqlite3_vfs *real;
static sqlite3_vfs layer;
static _Atomic int kind, left; /* left: 0 when it has struck or is not armed */
static _Atomic bool struck;

static sqlite3_file *real_of(sqlite3_file *file)
{
	return (sqlite3_file *)((struct file *)file + 1);
}

static bool strikes(bool sync)
{
	if ((atomic_load(&kind) == FAULT_SYNC) != sync || atomic_load(&left) == 0 || atomic_fetch_sub(&left, 1) != 1)
		return false;
	atomic_store(&struck, true);
	return true;
}

static int file_close(sqlite3_file *file)
{
	return real_of(file)->pMethods->xClose(real_of(file));
}

static int file_read(sqlite3_file *file, void *data, int size, sqlite3_int64 at)
{
	return real_of(file)->pMethods->xRead(real_of(file), data, size, at);
}

static int file_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 at)
{
	const sqlite3_io_methods *methods = real_of(file)->pMethods;
	if (!strikes(false))
		return methods->xWrite(real_of(file), data, size, at);
	if (atomic_load(&kind) == FAULT_WRITE_FULL)
		return SQLITE_FULL;
	methods->xWrite(real_of(file), data, size / 2, at);
	return SQLITE_IOERR_WRITE;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int file_sync(sqlite3_file *file, int flags)
{
	return strikes(true) ? SQLITE_IOERR_FSYNC : real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size)
{
	return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int file_lock(sqlite3_file *file, int level)
{
	return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int file_unlock(sqlite3_file *file, int level)
{
	return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int file_check_reserved(sqlite3_file *file, int *result)
{
	return real_of(file)->pMethods->xCheckReservedLock(real_of(file), result);
}

static int file_control(sqlite3_file *file, int operation, void *argument)
{
	return real_of(file)->pMethods->xFileControl(real_of(file), operation, argument);
}

static int file_sector_size(sqlite3_file *file)
{
	return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int file_characteristics(sqlite3_file *file)
{
	return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int file_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **map)
{
	return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, map);
}

static int file_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
	return real_of(file)->pMethods->xShmLock(real_of(file), offset, count, flags);
}

static void file_shm_barrier(sqlite3_file *file)
{
	real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int file_shm_unmap(sqlite3_file *file, int remove)
{
	return real_of(file)->pMethods->xShmUnmap(real_of(file), remove);
}

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *ret_flags)
{
	struct file *file = (struct file *)base;
	base->pMethods = NULL;
	int code = real->xOpen(real, name, real_of(base), flags, ret_flags);
	if (code != SQLITE_OK)
		return code;
	file->methods = (sqlite3_io_methods){
		.iVersion = 2, /* with shared memory, without mapped reads */
		.xClose = file_close,
		.xRead = file_read,
		.xWrite = file_write,
		.xTruncate = file_truncate,
		.xSync = file_sync,
		.xFileSize = file_size,
		.xLock = file_lock,
		.xUnlock = file_unlock,
		.xCheckReservedLock = file_check_reserved,
		.xFileControl = file_control,
		.xSectorSize = file_sector_size,
		.xDeviceCharacteristics = file_characteristics,
		.xShmMap = file_shm_map,
		.xShmLock = file_shm_lock,
		.xShmBarrier = file_shm_barrier,
		.xShmUnmap = file_shm_unmap,
	};
	base->pMethods = &file->methods;
	return SQLITE_OK;
}

void faulty_vfs_install(void)
{
	real = sqlite3_vfs_find(NULL);
	layer = *real;
	layer.pNext = NULL;
	layer.zName = "faulty";
	layer.szOsFile = (int)sizeof(struct file) + real->szOsFile;
	layer.xOpen = open_file;
	sqlite3_vfs_register(&layer, 1);
}

void faulty_vfs_arm(enum fault fault, int number)
{
	atomic_store(&struck, false);
	atomic_store(&kind, fault);
	atomic_store(&left, number);
}

bool faulty_vfs_disarm(void)
{
	atomic_store(&left, 0);
	return atomic_load(&struck);
}
