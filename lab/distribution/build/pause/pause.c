/* Copyright (c) 2026, homelab.gpu contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Holds a pod's namespaces open. As PID 1 of a shared PID namespace it also reaps orphans. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int number)
{
    (void)number;
    _exit(0);
}

static void reap(int number)
{
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {0};

    action.sa_handler = handler;
    action.sa_flags = flags;
    if (sigaction(number, &action, NULL) < 0) {
        perror("pause: sigaction");
        exit(1);
    }
}

int main(void)
{
    handle(SIGINT, leave, 0);
    handle(SIGTERM, leave, 0);
    handle(SIGCHLD, reap, SA_NOCLDSTOP);
    for (;;)
        pause();
}
