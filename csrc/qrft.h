/* What a C program includes. qrft_api.h holds declarations only, because cffi reads it as it is. */
#ifndef QRFT_H
#define QRFT_H

#include <stdint.h>

#include "qrft_api.h"

#endif
