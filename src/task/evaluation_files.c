/* Files of an evaluation: their paths are checked here, once, so that every executor may lay them out without a second
 * thought.
 *
 * Paths are sorted with `/` below every other byte. Then everything inside a directory stands right behind the
 * directory's own name, and in a list without clashes a path's neighbours tell whether it clashes with any. */
#include <stdlib.h>

#include "base/alloc.h"
#include "task/evaluation_reader.h"

#define PATH_MAX_BYTES 1024
#define PATH_PART_MAX_BYTES 255
#define FILES_MAX 1000 /* of one list */
#define FILES_TOTAL_MAX 10000 /* of an evaluation, its tests included */

static int path_compare(struct bytes a, struct bytes b)
{
	size_t shorter = a.len < b.len ? a.len : b.len;
	size_t i = 0;
	while (i < shorter && a.data[i] == b.data[i])
		i++;
	if (i == shorter)
		return a.len < b.len ? -1 : a.len > b.len;
	if (a.data[i] == '/')
		return -1;
	if (b.data[i] == '/')
		return 1;
	return (unsigned char)a.data[i] < (unsigned char)b.data[i] ? -1 : 1;
}

static int compare_entries(const void *a, const void *b)
{
	return path_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

static bool is_directory_of(struct bytes directory, struct bytes path)
{
	return path.len > directory.len && path.data[directory.len] == '/' &&
	       memcmp(path.data, directory.data, directory.len) == 0;
}

/* The first place whose path is not less. */
static size_t lower_bound(const struct bytes *sorted, size_t count, struct bytes path)
{
	size_t low = 0;
	while (low < count) {
		size_t middle = low + (count - low) / 2;
		if (path_compare(sorted[middle], path) < 0)
			low = middle + 1;
		else
			count = middle;
	}
	return low;
}

bool path_clashes(const struct bytes *sorted, size_t count, struct bytes path)
{
	size_t at = lower_bound(sorted, count, path);
	if (at > 0 && is_directory_of(sorted[at - 1], path))
		return true;
	return at < count && is_directory_of(path, sorted[at]);
}

bool path_listed(const struct bytes *sorted, size_t count, struct bytes path)
{
	size_t at = lower_bound(sorted, count, path);
	return at < count && bytes_equal(sorted[at], path);
}

bool read_path(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret_path)
{
	struct bytes text;
	if (!read_text(reader, path, value, 1, PATH_MAX_BYTES, &text))
		return false;
	size_t start = 0;
	for (size_t i = 0; i <= text.len; i++) {
		if (i < text.len && text.data[i] != '/')
			continue;
		struct bytes part = { text.data + start, i - start };
		if (part.len == 0 || bytes_is(part, ".") || bytes_is(part, "..")) {
			reader_fail(reader, path, "must be a relative path without empty, \".\" or \"..\" parts");
			return false;
		}
		if (part.len > PATH_PART_MAX_BYTES) {
			reader_fail(reader, path, "has a part of more than %d bytes", PATH_PART_MAX_BYTES);
			return false;
		}
		start = i + 1;
	}
	*ret_path = text;
	return true;
}

bool read_source_size(struct reader *reader, const struct path *path, size_t size)
{
	bool within = reader->source_bytes <= reader->limits->source_max;
	reader->source_bytes += size;
	if (within && reader->source_bytes > reader->limits->source_max) {
		reader_fail(reader, path, "code and files, those of tests included, are more than %zu bytes",
			reader->limits->source_max);
		return false;
	}
	return true;
}

enum { FILE_PATH, FILE_CONTENT, FILE_ENCODING, FILE_FIELDS };
static const struct bytes file_fields[FILE_FIELDS] = {
	[FILE_PATH] = NAME("path"),
	[FILE_CONTENT] = NAME("content"),
	[FILE_ENCODING] = NAME("encoding"),
};

static bool read_file(struct reader *reader, const struct path *path, yyjson_val *value, struct job_file *ret_file)
{
	yyjson_val *fields[FILE_FIELDS] = { 0 };
	if (!read_object(reader, path, value, file_fields, FILE_FIELDS, fields))
		return false;
	struct path at[FILE_FIELDS];
	for (size_t i = 0; i < FILE_FIELDS; i++)
		at[i] = PATH_NAME(path, file_fields[i]);
	bool good = true;
	for (size_t i = FILE_PATH; i <= FILE_CONTENT; i++) {
		if (!fields[i]) {
			reader_fail(reader, &at[i], "is missing");
			good = false;
		}
	}
	return good && read_path(reader, &at[FILE_PATH], fields[FILE_PATH], &ret_file->path) &&
	       read_content(reader, &at[FILE_CONTENT], fields[FILE_CONTENT], &at[FILE_ENCODING], fields[FILE_ENCODING],
		       &ret_file->content) &&
	       read_source_size(reader, &at[FILE_CONTENT], ret_file->content.len);
}

bool read_files(struct reader *reader, const struct path *path, yyjson_val *value, size_t min,
	const struct job_file **ret_files, size_t *ret_count, const struct bytes **ret_sorted)
{
	if (!read_array(reader, path, value, min, FILES_MAX))
		return false;
	size_t i, count;
	yyjson_val *element;
	bool good = true;
	reader->file_count += yyjson_arr_size(value);
	if (reader->file_count > FILES_TOTAL_MAX) {
		reader_fail(reader, path, "more than %d files in all", FILES_TOTAL_MAX);
		return false;
	}
	struct job_file *files = arena_array(reader->arena, yyjson_arr_size(value) + 1, sizeof(*files));
	struct bytes *sorted = arena_array(reader->arena, yyjson_arr_size(value) + 1, sizeof(*sorted));
	yyjson_arr_foreach(value, i, count, element)
	{
		struct path here = PATH_INDEX(path, i);
		if (!read_file(reader, &here, element, &files[i]))
			good = false;
		sorted[i] = files[i].path;
	}
	if (!good)
		return false;
	qsort(sorted, count, sizeof(*sorted), compare_entries);
	for (i = 1; i < count; i++) {
		int shown = (int)(sorted[i].len < 100 ? sorted[i].len : 100);
		if (bytes_equal(sorted[i - 1], sorted[i])) {
			reader_fail(reader, path, "\"%.*s\" is there twice", shown, sorted[i].data);
			good = false;
		} else if (is_directory_of(sorted[i - 1], sorted[i])) {
			shown = (int)(sorted[i - 1].len < 100 ? sorted[i - 1].len : 100);
			reader_fail(reader, path, "\"%.*s\" is both a file and a directory", shown, sorted[i - 1].data);
			good = false;
		}
	}
	*ret_files = files;
	*ret_count = count;
	*ret_sorted = sorted;
	return good;
}
