/* Copyright (c) 2026, homelab.gpu contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * nvidia-cuda-mps-server in name only: it is there until it is told to end. */

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void end(int number) { _exit(number == SIGTERM ? 0 : 1); }

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "%s is started by nvidia-cuda-mps-control only\n", argv[0]);
        return 1;
    }
    signal(SIGTERM, end);
    for (;;)
        pause();
}
