/* Copyright (c) 2026, homelab.gpu contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A library with the name of NVIDIA's libcuda.so.1, without which the container toolkit finds no driver. Nothing can be computed with it. */

#define CUDA_ERROR_NO_DEVICE 100

int cuInit(unsigned int flags)
{
    (void)flags;
    return CUDA_ERROR_NO_DEVICE;
}
