/* Copyright (c) 2026, homelab.gpu contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * As much of nvidia-cuda-mps-control as NVIDIA's device plugin uses: with -d or -f the daemon that keeps the limits of MPS and starts its
 * servers, and without options the client that passes commands on to it, one a line. No GPU is shared by it. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_DEVICES = 32, MOST_SERVERS = 8, PATIENCE_SECONDS = 10 };

static double thread_percentage = 100;
static char memory_limits[MOST_DEVICES][24];
static pid_t servers[MOST_SERVERS];
static char log_path[4096], pid_path[4096], socket_path[sizeof ((struct sockaddr_un *)NULL)->sun_path];

static const char *folder(const char *variable, const char *otherwise)
{
    const char *value = getenv(variable);

    return value && *value ? value : otherwise;
}

static const char *pipe_folder(void) { return folder("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"); }

static void note(const char *format, ...)
{
    char moment[32];
    time_t now = time(NULL);
    FILE *log = fopen(log_path, "a");
    va_list values;

    if (!log)
        return;
    strftime(moment, sizeof moment, "%Y-%m-%d %H:%M:%S", localtime(&now));
    fprintf(log, "[%s.000 Control %5d] ", moment, (int)getpid());
    va_start(values, format);
    vfprintf(log, format, values);
    va_end(values);
    fputc('\n', log);
    fclose(log);
}

static bool address_of(struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    return (size_t)snprintf(address->sun_path, sizeof address->sun_path, "%s/control", pipe_folder()) < sizeof address->sun_path;
}

/* A connection to the daemon, or -1 if there is none. */
static int reach(void)
{
    struct timeval patience = {PATIENCE_SECONDS, 0};
    struct sockaddr_un address;
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connection >= 0 && address_of(&address) && !connect(connection, (struct sockaddr *)&address, sizeof address)) {
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        return connection;
    }
    if (connection >= 0)
        close(connection);
    return -1;
}

static void start_server(FILE *answer, const char *uid)
{
    char program[4096], *name;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 32);
    int place = 0, problem;

    while (place < MOST_SERVERS && servers[place] > 0)
        place++;
    if (length < 0 || place == MOST_SERVERS) {
        fputs("1 there is no place for another server\n", answer);
        return;
    }
    program[length] = 0;
    name = strrchr(program, '/');
    strcpy(name ? name + 1 : program, "nvidia-cuda-mps-server");
    problem = posix_spawn(&servers[place], program, NULL, NULL, (char *[]){program, (char *)uid, NULL}, NULL);
    if (problem) {
        servers[place] = 0;
        fprintf(answer, "1 %s: %s\n", program, strerror(problem));
        return;
    }
    note("Starting new server %d for user %s", (int)servers[place], uid);
    fputs("0 ", answer);
}

static void end_servers(void)
{
    for (int i = 0; i < MOST_SERVERS; i++)
        if (servers[i] > 0) {
            kill(servers[i], SIGTERM);
            waitpid(servers[i], NULL, 0);
        }
}

static void collect_servers(void)
{
    pid_t ended;

    while ((ended = waitpid(-1, NULL, WNOHANG)) > 0)
        for (int i = 0; i < MOST_SERVERS; i++)
            if (servers[i] == ended)
                servers[i] = 0;
}

/* The answer begins with 0, or with 1 if the command was refused. True at the end. */
static bool obey(char *line, FILE *answer)
{
    char limit[24], unit, rest;
    unsigned int device;
    double percentage;

    collect_servers();
    if (!strcmp(line, "quit")) {
        end_servers();
        note("Exit");
        unlink(socket_path);
        unlink(pid_path);
        fputs("0 ", answer);
        return true;
    }
    if (!strcmp(line, "get_default_active_thread_percentage")) {
        fprintf(answer, "0 %.1f\n", thread_percentage);
    } else if (sscanf(line, "set_default_active_thread_percentage %lf%c", &percentage, &rest) == 1 && percentage > 0 && percentage <= 100) {
        thread_percentage = percentage;
        fprintf(answer, "0 %.1f\n", thread_percentage);
    } else if (sscanf(line, "set_default_device_pinned_mem_limit %u %23s %c", &device, limit, &rest) == 2 && device < MOST_DEVICES &&
               sscanf(limit, "%*u%c%c", &unit, &rest) == 1 && strchr("MG", unit)) {
        strcpy(memory_limits[device], limit);
        fputs("0 ", answer);
    } else if (sscanf(line, "get_default_device_pinned_mem_limit %u%c", &device, &rest) == 1 && device < MOST_DEVICES) {
        fprintf(answer, "0 %s\n", memory_limits[device]);
    } else if (!strncmp(line, "start_server -uid ", 18) && line[18]) {
        start_server(answer, line + 18);
    } else if (!strcmp(line, "get_server_list")) {
        fputs("0 ", answer);
        for (int i = 0; i < MOST_SERVERS; i++)
            if (servers[i] > 0)
                fprintf(answer, "%d\n", (int)servers[i]);
    } else {
        fprintf(answer, "1 This stand-in does not know, or not with this value: %s\n", line);
        return false;
    }
    note("NEW UI: %s", line);
    return false;
}

static void serve(int listener)
{
    struct timeval patience = {PATIENCE_SECONDS, 0};

    for (bool end = false; !end;) {
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        char line[512];
        FILE *stream;

        if (connection < 0)
            continue;
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        stream = fdopen(connection, "r+");
        if (!stream) {
            close(connection);
            continue;
        }
        if (fgets(line, sizeof line, stream)) {
            line[strcspn(line, "\n")] = 0;
            end = obey(line, stream);
        }
        fclose(stream);
    }
}

static int run_daemon(bool in_background)
{
    struct sockaddr_un address;
    char told = 1;
    int listener, ready[2], existing = reach();
    FILE *pid_file;

    if (existing >= 0) {
        close(existing);
        puts("An instance of this daemon is already running");
        return 1;
    }
    if (!address_of(&address)) {
        printf("The path of %s/control is too long\n", pipe_folder());
        return 1;
    }
    mkdir(pipe_folder(), 0755);
    mkdir(folder("CUDA_MPS_LOG_DIRECTORY", "/var/log/nvidia-mps"), 0755);
    snprintf(log_path, sizeof log_path, "%s/control.log", folder("CUDA_MPS_LOG_DIRECTORY", "/var/log/nvidia-mps"));
    strcpy(socket_path, address.sun_path);
    unlink(socket_path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) {
        printf("%s: %s\n", address.sun_path, strerror(errno));
        return 1;
    }
    /* Clients of any user may come */
    chmod(address.sun_path, 0666);
    fflush(stdout);
    if (in_background) {
        pid_t child;
        int nowhere;

        if (pipe2(ready, O_CLOEXEC) || (child = fork()) < 0) {
            perror("nvidia-cuda-mps-control");
            return 1;
        }
        if (child) {
            close(ready[1]);
            return read(ready[0], &told, 1) == 1 ? 0 : 1;
        }
        close(ready[0]);
        setsid();
        nowhere = open("/dev/null", O_RDWR);
        for (int i = 0; nowhere >= 0 && i < 3; i++)
            dup2(nowhere, i);
    }
    signal(SIGPIPE, SIG_IGN);
    snprintf(pid_path, sizeof pid_path, "%s/nvidia-cuda-mps-control.pid", pipe_folder());
    pid_file = fopen(pid_path, "w");
    if (pid_file) {
        fprintf(pid_file, "%d", (int)getpid());
        fclose(pid_file);
    }
    note("Starting control daemon using socket %s", address.sun_path);
    note("To connect CUDA applications to this daemon, set env CUDA_MPS_PIPE_DIRECTORY=%s", pipe_folder());
    if (in_background) {
        if (write(ready[1], &told, 1) != 1)
            return 1;
        close(ready[1]);
    }
    serve(listener);
    return 0;
}

static int pass_on(char *line)
{
    char answer[4096];
    int connection = reach();
    ssize_t size, length = strlen(line);
    size_t total = 0;

    if (connection < 0) {
        puts("Cannot find MPS control daemon process");
        return 1;
    }
    line[length++] = '\n';
    if (write(connection, line, length) != length)
        total = 0;
    while ((size = read(connection, answer + total, sizeof answer - 1 - total)) > 0)
        total += size;
    close(connection);
    answer[total] = 0;
    if (total < 2) {
        puts("The MPS control daemon does not answer");
        return 1;
    }
    fputs(answer + 2, stdout);
    return *answer == '0' ? 0 : 1;
}

int main(int argc, char **argv)
{
    char line[512];
    int code = 0;

    if (argc == 2 && (!strcmp(argv[1], "-d") || !strcmp(argv[1], "-f")))
        return run_daemon(argv[1][1] == 'd');
    if (argc > 1) {
        puts("This stand-in knows -d and -f only.");
        return 1;
    }
    while (!code && fgets(line, sizeof line - 1, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (*line)
            code = pass_on(line);
    }
    return code;
}
