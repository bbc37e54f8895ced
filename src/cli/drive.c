#include "drive.h"

#include "control/control.h"

#include <errno.h>

int drive_machine(struct machine *machine, const char *control_path, struct incoming *incoming, bool paused,
		  int *ret_exit_code, struct err *err)
{
	struct control *control = NULL;
	if (!control_path)
		control_path = machine_config(machine)->control;
	if (!control_path && paused)
		return err_set(err, -EINVAL,
			       "--paused: nobody could let it run without a control socket "
			       "(--control PATH)");
	int r = control_path ? control_create(machine, control_path, &control, err) : 0;
	if (r == 0 && control)
		control_set_incoming(control, incoming);
	if (r == 0 && paused)
		machine_pause(machine, machine_status(machine));
	if (r == 0)
		r = machine_run(machine, ret_exit_code, err);
	control_destroy(control);
	return r;
}
