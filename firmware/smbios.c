#include "smbios.h"

#include "base/bytes.h"
#include "base/layout.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define PACKED __attribute__((packed))

struct smbios_anchor { /* 5.2.2, the 64-bit entry point */
	char anchor[5];
	uint8_t checksum;
	uint8_t length;
	uint8_t major, minor, revision;
	uint8_t entry_point_revision;
	uint8_t reserved;
	uint32_t max_bytes; /* of all structures */
	uint64_t gpa;
} PACKED;
static_assert(sizeof(struct smbios_anchor) == 24, "SMBIOS anchor");

struct smbios_header { /* 6.1.2 */
	uint8_t type;
	uint8_t length; /* without the strings */
	uint16_t handle;
} PACKED;

/* A string is a number: 1 is the first of those that follow the structure, 0 is none (6.1.3). */
typedef uint8_t smbios_string;

struct smbios_bios { /* 7.1 */
	struct smbios_header header;
	smbios_string vendor;
	smbios_string version;
	uint16_t segment;
	smbios_string date;
	uint8_t rom_64k_blocks_less_one;
	uint64_t characteristics;
	uint8_t characteristics_1, characteristics_2;
	uint8_t major, minor;
	uint8_t controller_major, controller_minor;
} PACKED;
static_assert(sizeof(struct smbios_bios) == 0x18, "SMBIOS type 0");

struct smbios_system { /* 7.2 */
	struct smbios_header header;
	smbios_string manufacturer;
	smbios_string product;
	smbios_string version;
	smbios_string serial;
	uint8_t uuid[16]; /* all 0: none. One invented here would be the same for clones of a machine */
	uint8_t wake_up;
	smbios_string sku;
	smbios_string family;
} PACKED;
static_assert(sizeof(struct smbios_system) == 0x1b, "SMBIOS type 1");

struct smbios_chassis { /* 7.4 */
	struct smbios_header header;
	smbios_string manufacturer;
	uint8_t type;
	smbios_string version, serial, asset;
	uint8_t boot_state, power_state, thermal_state, security;
	uint32_t oem;
	uint8_t height, cords, elements, element_bytes;
	smbios_string sku;
} PACKED;
static_assert(sizeof(struct smbios_chassis) == 0x16, "SMBIOS type 3");

struct smbios_processor { /* 7.5 */
	struct smbios_header header;
	smbios_string socket;
	uint8_t type;
	uint8_t family;
	smbios_string manufacturer;
	uint64_t id;
	smbios_string version;
	uint8_t voltage;
	uint16_t clock, max_speed, speed;
	uint8_t status;
	uint8_t upgrade;
	uint16_t l1, l2, l3;
	smbios_string serial, asset, part;
	uint8_t cores, cores_enabled, threads; /* 0xff: see the wider ones */
	uint16_t characteristics;
	uint16_t family_wide;
	uint16_t cores_wide, cores_enabled_wide, threads_wide;
} PACKED;
static_assert(sizeof(struct smbios_processor) == 0x30, "SMBIOS type 4");

struct smbios_memory_array { /* 7.17 */
	struct smbios_header header;
	uint8_t location, use, correction;
	uint32_t capacity_kib;
	uint16_t error_handle;
	uint16_t devices;
	uint64_t capacity_bytes; /* when the other is 0x80000000 */
} PACKED;
static_assert(sizeof(struct smbios_memory_array) == 0x17, "SMBIOS type 16");

struct smbios_memory_device { /* 7.18 */
	struct smbios_header header;
	uint16_t array_handle, error_handle;
	uint16_t total_width, data_width;
	uint16_t size_mib; /* 0x7fff: see the wide one */
	uint8_t form_factor;
	uint8_t set;
	smbios_string locator, bank;
	uint8_t type;
	uint16_t detail;
	uint16_t speed;
	smbios_string manufacturer, serial, asset, part;
	uint8_t attributes;
	uint32_t size_mib_wide;
	uint16_t configured_speed;
	uint16_t min_voltage, max_voltage, voltage;
} PACKED;
static_assert(sizeof(struct smbios_memory_device) == 0x28, "SMBIOS type 17");

struct smbios_memory_mapped { /* 7.20 */
	struct smbios_header header;
	uint32_t first_kib, last_kib; /* 0xffffffff: see the wide ones */
	uint16_t array_handle;
	uint8_t devices;
	uint64_t first, last;
} PACKED;
static_assert(sizeof(struct smbios_memory_mapped) == 0x1f, "SMBIOS type 19");

struct smbios_boot { /* 7.33 */
	struct smbios_header header;
	uint8_t reserved[6];
	uint8_t status; /* 0: no errors */
} PACKED;
static_assert(sizeof(struct smbios_boot) == 0x0b, "SMBIOS type 32");

enum {
	SMBIOS_BIOS = 0,
	SMBIOS_SYSTEM = 1,
	SMBIOS_CHASSIS = 3,
	SMBIOS_PROCESSOR = 4,
	SMBIOS_MEMORY_ARRAY = 16,
	SMBIOS_MEMORY_DEVICE = 17,
	SMBIOS_MEMORY_MAPPED = 19,
	SMBIOS_BOOT = 32,
	SMBIOS_END = 127,

	HANDLE_NONE = 0xffff,
	HANDLE_NO_ERROR_INFO = 0xfffe,
	HANDLE_MEMORY_ARRAY = SMBIOS_MEMORY_ARRAY << 8,

	BIOS_CHARACTERISTICS_UNKNOWN = 1 << 3,
	BIOS_VIRTUAL_MACHINE = 1 << 4, /* second extension byte */
	BIOS_NO_CONTROLLER = 0xff,
	WAKE_UP_POWER_SWITCH = 6,
	CHASSIS_OTHER = 1,
	STATE_SAFE = 3,
	SECURITY_UNKNOWN = 2,
	PROCESSOR_CENTRAL = 3,
	PROCESSOR_FAMILY_OTHER = 1,
	PROCESSOR_UPGRADE_OTHER = 1,
	PROCESSOR_ENABLED = 0x41, /* socket populated, CPU enabled */
	PROCESSOR_64BIT = 1 << 2,
	PROCESSOR_MULTI_CORE = 1 << 3,
	PROCESSOR_THREADS = 1 << 4,
	MEMORY_LOCATION_OTHER = 1,
	MEMORY_USE_SYSTEM = 3,
	MEMORY_CORRECTION_NONE = 3,
	MEMORY_FORM_DIMM = 9,
	MEMORY_TYPE_RAM = 7,
	MEMORY_DETAIL_OTHER = 1 << 1,
	MEMORY_WIDTH_UNKNOWN = 0xffff,
	MEMORY_SIZE_WIDE = 0x7fff,
};

static struct smbios_header smbios_header(uint8_t type, size_t bytes, uint32_t instance)
{
	/* The handle has to be unique and means nothing: the type in the high byte makes dumps readable. */
	return (struct smbios_header){.type = type,
				      .length = (uint8_t)bytes,
				      .handle = (uint16_t)((uint32_t)type * 256 + instance)};
}

/* A structure and its strings, the last of which may be missing. The set ends with an empty string (6.1.3).
 */
static void smbios_put(struct writer *w, const void *structure, size_t bytes, const char *const *strings,
		       size_t count)
{
	write_bytes(w, structure, bytes);
	for (size_t i = 0; i < count; i++)
		write_bytes(w, strings[i], strlen(strings[i]) + 1);
	write_zeros(w, count ? 1 : 2);
}

static void smbios_put_bios(struct writer *w)
{
	static const char *const strings[] = {"aerie", AERIE_VERSION, "01/01/2026"};
	const struct smbios_bios bios = {
		.header = smbios_header(SMBIOS_BIOS, sizeof(bios), 0),
		.vendor = 1,
		.version = 2,
		.segment = LAYOUT_ACPI_GPA >> 4,
		.date = 3,
		.rom_64k_blocks_less_one = 1, /* the 128 KiB that the tables have */
		.characteristics = BIOS_CHARACTERISTICS_UNKNOWN,
		.characteristics_2 = BIOS_VIRTUAL_MACHINE,
		.controller_major = BIOS_NO_CONTROLLER,
		.controller_minor = BIOS_NO_CONTROLLER,
	};
	smbios_put(w, &bios, sizeof(bios), strings, 3);
}

/* The machine's name is the serial number: that is what tells one machine of this make from another. */
static void smbios_put_system(const struct machine_config *config, struct writer *w)
{
	const char *const strings[] = {"aerie", "PC", AERIE_VERSION, config->name};
	const bool named = *config->name; /* an empty string would end the set */
	const struct smbios_system system = {
		.header = smbios_header(SMBIOS_SYSTEM, sizeof(system), 0),
		.manufacturer = 1,
		.product = 2,
		.version = 3,
		.serial = named ? 4 : 0,
		.wake_up = WAKE_UP_POWER_SWITCH,
	};
	smbios_put(w, &system, sizeof(system), strings, named ? 4 : 3);
}

static void smbios_put_chassis(struct writer *w)
{
	static const char *const strings[] = {"aerie"};
	const struct smbios_chassis chassis = {
		.header = smbios_header(SMBIOS_CHASSIS, sizeof(chassis), 0),
		.manufacturer = 1,
		.type = CHASSIS_OTHER,
		.boot_state = STATE_SAFE,
		.power_state = STATE_SAFE,
		.thermal_state = STATE_SAFE,
		.security = SECURITY_UNKNOWN,
	};
	smbios_put(w, &chassis, sizeof(chassis), strings, 1);
}

static uint8_t smbios_narrow(uint32_t count)
{
	return count < UINT8_MAX ? (uint8_t)count : UINT8_MAX;
}

static void smbios_put_processor(const struct cpus_config *cpus, uint32_t socket, struct writer *w)
{
	char name[16];
	(void)snprintf(name, sizeof(name), "CPU %u", socket);
	const char *const strings[] = {name};
	const uint32_t threads = cpus->cores * cpus->threads;
	const struct smbios_processor processor = {
		.header = smbios_header(SMBIOS_PROCESSOR, sizeof(processor), socket),
		.socket = 1,
		.type = PROCESSOR_CENTRAL,
		.family = PROCESSOR_FAMILY_OTHER,
		.status = PROCESSOR_ENABLED,
		.upgrade = PROCESSOR_UPGRADE_OTHER,
		.l1 = HANDLE_NONE,
		.l2 = HANDLE_NONE,
		.l3 = HANDLE_NONE,
		.cores = smbios_narrow(cpus->cores),
		.cores_enabled = smbios_narrow(cpus->cores),
		.threads = smbios_narrow(threads),
		.characteristics = (uint16_t)(PROCESSOR_64BIT | (cpus->cores > 1 ? PROCESSOR_MULTI_CORE : 0) |
					      (cpus->threads > 1 ? PROCESSOR_THREADS : 0)),
		.family_wide = PROCESSOR_FAMILY_OTHER,
		.cores_wide = (uint16_t)cpus->cores,
		.cores_enabled_wide = (uint16_t)cpus->cores,
		.threads_wide = (uint16_t)threads,
	};
	smbios_put(w, &processor, sizeof(processor), strings, 1);
}

static void smbios_put_memory(uint64_t bytes, struct writer *w)
{
	static const char *const strings[] = {"DIMM 0"};
	const struct smbios_memory_array array = {
		.header = smbios_header(SMBIOS_MEMORY_ARRAY, sizeof(array), 0),
		.location = MEMORY_LOCATION_OTHER,
		.use = MEMORY_USE_SYSTEM,
		.correction = MEMORY_CORRECTION_NONE,
		.capacity_kib = bytes / KIB < 0x80000000 ? (uint32_t)(bytes / KIB) : 0x80000000,
		.error_handle = HANDLE_NO_ERROR_INFO,
		.devices = 1,
		.capacity_bytes = bytes / KIB < 0x80000000 ? 0 : bytes,
	};
	smbios_put(w, &array, sizeof(array), NULL, 0);
	const bool wide = bytes / MIB >= MEMORY_SIZE_WIDE;
	const struct smbios_memory_device device = {
		.header = smbios_header(SMBIOS_MEMORY_DEVICE, sizeof(device), 0),
		.array_handle = HANDLE_MEMORY_ARRAY,
		.error_handle = HANDLE_NO_ERROR_INFO,
		.total_width = MEMORY_WIDTH_UNKNOWN,
		.data_width = MEMORY_WIDTH_UNKNOWN,
		.size_mib = wide ? MEMORY_SIZE_WIDE : (uint16_t)(bytes / MIB),
		.form_factor = MEMORY_FORM_DIMM,
		.locator = 1,
		.type = MEMORY_TYPE_RAM,
		.detail = MEMORY_DETAIL_OTHER,
		.size_mib_wide = wide ? (uint32_t)(bytes / MIB) : 0,
	};
	smbios_put(w, &device, sizeof(device), strings, 1);
}

static void smbios_put_mapped(const struct guest_region *region, uint32_t instance, struct writer *w)
{
	const uint64_t last = region->gpa + region->size - 1;
	const bool wide = last / KIB >= UINT32_MAX;
	const struct smbios_memory_mapped mapped = {
		.header = smbios_header(SMBIOS_MEMORY_MAPPED, sizeof(mapped), instance),
		.first_kib = wide ? UINT32_MAX : (uint32_t)(region->gpa / KIB),
		.last_kib = wide ? UINT32_MAX : (uint32_t)(last / KIB),
		.array_handle = HANDLE_MEMORY_ARRAY,
		.devices = 1,
		.first = wide ? region->gpa : 0,
		.last = wide ? last : 0,
	};
	smbios_put(w, &mapped, sizeof(mapped), NULL, 0);
}

static void smbios_put_all(const struct machine_config *config, const struct guest_memory *memory,
			   struct writer *w)
{
	const struct guest_region *regions;
	const size_t region_count = guest_memory_regions(memory, &regions);
	smbios_put_bios(w);
	smbios_put_system(config, w);
	smbios_put_chassis(w);
	for (uint32_t i = 0; i < config->cpus.sockets; i++)
		smbios_put_processor(&config->cpus, i, w);
	smbios_put_memory(config->memory.size_bytes, w);
	for (uint32_t i = 0; i < region_count; i++)
		smbios_put_mapped(&regions[i], i, w);
	const struct smbios_boot boot = {.header = smbios_header(SMBIOS_BOOT, sizeof(boot), 0)};
	smbios_put(w, &boot, sizeof(boot), NULL, 0);
	const struct smbios_header end = smbios_header(SMBIOS_END, sizeof(end), 0);
	smbios_put(w, &end, sizeof(end), NULL, 0);
}

int smbios_write_tables(const struct machine_config *config, const struct guest_memory *memory, uint8_t *area,
			struct err *err)
{
	memset(area, 0, LAYOUT_SMBIOS_BYTES);
	struct smbios_anchor anchor = {
		.anchor = {'_', 'S', 'M', '3', '_'},
		.length = sizeof(anchor),
		.major = 3,
		.entry_point_revision = 1,
		.gpa = LAYOUT_SMBIOS_GPA + sizeof(anchor),
	};
	struct writer w = writer_on(area + sizeof(anchor), LAYOUT_SMBIOS_BYTES - sizeof(anchor));
	smbios_put_all(config, memory, &w);
	if (w.failed)
		return err_set(err, -ENOSPC, "cpus.sockets, name: the SMBIOS tables do not fit into %u bytes",
			       (unsigned)LAYOUT_SMBIOS_BYTES);
	anchor.max_bytes = (uint32_t)w.used;
	uint8_t sum = 0;
	for (size_t i = 0; i < sizeof(anchor); i++)
		sum = (uint8_t)(sum + ((const uint8_t *)&anchor)[i]);
	anchor.checksum = (uint8_t)-sum;
	memcpy(area, &anchor, sizeof(anchor));
	return 0;
}
