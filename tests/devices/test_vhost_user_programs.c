/* vhost-user with the programs that Debian has: qemu-storage-daemon and virtiofsd. */
#include "harness.h"
#include "vhost_user_rig.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static pid_t run(const char *const *argv)
{
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)!freopen("/dev/null", "w", stderr);
		(void)execv(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	return pid;
}

static void end(pid_t pid, int signal)
{
	int status;
	ck_assert_int_eq(kill(pid, signal), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

static bool wait_for_socket(void)
{
	struct stat st;
	for (unsigned i = 0; i < 5000; i++) {
		if (stat(rig.peer.path, &st) == 0 && S_ISSOCK(st.st_mode))
			return true;
		(void)usleep(1000);
	}
	return false;
}

static const char *const storage_daemon = "/usr/bin/qemu-storage-daemon";
static char image[80], blockdev[200], export[200];

static pid_t run_storage_daemon(void)
{
	(void)snprintf(image, sizeof(image), "%s.img", rig.peer.path);
	(void)snprintf(blockdev, sizeof(blockdev), "driver=file,node-name=disk,filename=%s", image);
	(void)snprintf(export, sizeof(export),
		       "type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path=%s,writable=on,"
		       "num-queues=2",
		       rig.peer.path);
	const char *const argv[] = {storage_daemon, "--blockdev", blockdev, "--export", export, NULL};
	(void)unlink(rig.peer.path);
	pid_t pid = run(argv);
	ck_assert(wait_for_socket());
	return pid;
}

/* Its socket is there before it listens. */
static void create_patiently(void)
{
	struct err err = ERR_INIT;
	int r = rig_create(&err);
	for (unsigned i = 0; i < 1000 && r == -ECONNREFUSED; i++) {
		(void)usleep(1000);
		err = ERR_INIT;
		r = rig_create(&err);
	}
	ck_assert_msg(r == 0, "%s", err.text);
}

START_TEST(a_disk_of_qemu_storage_daemon)
{
	if (access(storage_daemon, X_OK) < 0)
		exit(TEST_SKIP);
	rig_world(0);
	(void)snprintf(image, sizeof(image), "%s.img", rig.peer.path);
	FILE *file = fopen(image, "w");
	ck_assert_int_eq(ftruncate(fileno(file), PEER_DISK), 0);
	(void)fclose(file);
	pid_t pid = run_storage_daemon();
	create_patiently();
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_BLOCK), 0);
	for (unsigned round = 0; round < 4; round++) {
		ck_assert_int_eq(
			driver_start(&rig.driver,
				     &(struct driver_options){.features = round & 1 ? UINT64_MAX : 0}),
			0);
		ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 8), PEER_DISK / PEER_SECTOR);
		check_disk(round & 1, (uint8_t)(round + 1));
		for (unsigned slot = 0; slot < 16; slot++)
			submit(0, slot, false, 8 * slot);
		for (unsigned slot = 0; slot < 16; slot++)
			(void)collect(0);
	}
	end(pid, SIGKILL);
	rig_wait_lost(1);
	submit(1, 5, false, 8);
	pid = run_storage_daemon();
	ck_assert_uint_eq(collect(1), 5);
	ck_assert_uint_eq(slot_data(5)[9], 1); /* what the first round wrote */
	check_disk(0, 77);
	driver_finish(&rig.driver);
	vhost_user_class.destroy(rig.device);
	end(pid, SIGTERM);
	(void)unlink(image);
	rig_end_world();
}
END_TEST

/* The first request of a FUSE session, and its answer. */
static void check_fuse_init(unsigned queue)
{
	uint8_t *request = world_at(&rig.world, rig.gpa, SLOT_BYTES), *answer = request + 4096;
	memset(request, 0, SLOT_BYTES);
	store_le32(request, 40 + 16); /* length */
	store_le32(request + 4, 26);  /* FUSE_INIT */
	store_le64(request + 8, 77);  /* unique */
	store_le32(request + 40, 7);  /* version 7.31 */
	store_le32(request + 44, 31);
	store_le32(request + 48, 65536);
	const struct ring_buffer buffers[] = {{rig.gpa, 56, false}, {rig.gpa + 4096, 80, true}};
	ck_assert_int_gt(driver_request(&rig.driver, queue, buffers, 2), 16);
	ck_assert_int_eq((int)load_le32(answer + 4), 0); /* error */
	ck_assert_uint_eq(load_le64(answer + 8), 77);
	ck_assert_uint_eq(load_le32(answer + 16), 7);
}

START_TEST(a_file_system_of_virtiofsd)
{
	static const char *const programs[] = {"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"};
	const char *program = NULL;
	char socket_option[100], source_option[100], tag[36] = "";
	for (size_t i = 0; i < ARRAY_LEN(programs) && !program; i++)
		if (access(programs[i], X_OK) == 0)
			program = programs[i];
	if (!program || geteuid() != 0) {
		(void)printf("no virtiofsd that could run here\n");
		return;
	}
	rig_world(0);
	rig.config = (struct vhost_user_config){
		.kind = VHOST_USER_FS, .path = rig.peer.path, .tag = "shared", .queues = 1, .queue_size = 64};
	(void)snprintf(socket_option, sizeof(socket_option), "--socket-path=%s", rig.peer.path);
	(void)snprintf(source_option, sizeof(source_option), "source=/usr/share/doc");
	const char *const argv[] = {program, socket_option,    "-o", source_option,
				    "-o",    "sandbox=chroot", NULL};
	pid_t pid = run(argv);
	if (!wait_for_socket()) {
		end(pid, SIGKILL);
		rig_end_world();
		(void)printf("virtiofsd cannot run here\n");
		return;
	}
	create_patiently();
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_FS), 0);
	rig_drive();
	driver_config_read(&rig.driver, 0, tag, sizeof(tag));
	ck_assert_str_eq(tag, "shared");
	ck_assert_uint_eq(driver_config_get(&rig.driver, 36, 4), 1);
	check_fuse_init(1);
	rig_drive(); /* a guest that boots again */
	check_fuse_init(1);
	driver_finish(&rig.driver);
	vhost_user_class.destroy(rig.device);
	end(pid, SIGKILL);
	rig_end_world();
}
END_TEST

TEST_MAIN("vhost_user_programs", a_disk_of_qemu_storage_daemon, a_file_system_of_virtiofsd)
