#include "drive.h"

#include "control/control.h"

int drive_machine(struct machine *machine, const char *control_path, bool paused, int *ret_exit_code,
		  struct err *err)
{
	struct control *control = NULL;
	int r = control_path ? control_create(machine, control_path, &control, err) : 0;
	if (r == 0 && paused)
		machine_pause(machine, machine_status(machine));
	if (r == 0)
		r = machine_run(machine, ret_exit_code, err);
	control_destroy(control);
	return r;
}
