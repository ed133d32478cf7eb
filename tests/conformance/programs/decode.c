/* An implementation in another language, for `incref conform run "cmd:./decode"`: decode of E4M3 to float32.

   It reads a length of 8 bytes and that many bytes of a safetensors file, and answers in the same way.
   With an argument it misbehaves: "wrong" doubles every value, "crash" aborts, "hang" waits. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static float e4m3(uint8_t code) {
  uint32_t sign = (uint32_t)(code & 0x80) << 24, number = code & 0x7F, bits;
  float value;
  if (number == 0x7F) {
    bits = sign | 0x7FC00000;
  } else if (number < 8) {
    value = (float)number / 512.0f;
    memcpy(&bits, &value, 4);
    bits |= sign;
  } else {
    bits = sign | ((number << 20) + ((127 - 7) << 23));
  }
  memcpy(&value, &bits, 4);
  return value;
}

static void answer(const char *header, const void *data, uint64_t size) {
  uint64_t length = strlen(header), total = 8 + length + size;
  fwrite(&total, 8, 1, stdout);
  fwrite(&length, 8, 1, stdout);
  fwrite(header, 1, length, stdout);
  fwrite(data, 1, size, stdout);
  fflush(stdout);
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  uint64_t total;
  while (fread(&total, 8, 1, stdin) == 1) {
    char *message = malloc(total + 1);
    if (!message || fread(message, 1, total, stdin) != total) return 1;
    message[total] = 0;
    uint64_t length;
    memcpy(&length, message, 8);
    char *header = calloc(length + 1, 1);
    memcpy(header, message + 8, length);
    const char *data = message + 8 + length;
    if (strstr(header, "\"call\":\"describe\"")) {
      answer("{\"__metadata__\":{\"ops\":\"{\\\"decode\\\": {\\\"fmt\\\": [\\\"float8_e4m3fn\\\"], "
             "\\\"dtype\\\": [\\\"float32\\\"]}}\"}}", "", 0);
    } else {
      if (!strcmp(mode, "crash")) abort();
      if (!strcmp(mode, "hang")) sleep(60);
      const char *shape = strstr(header, "\"shape\":"), *offsets = strstr(header, "\"data_offsets\":[");
      if (!shape || !offsets) return 1;
      uint64_t first = strtoull(offsets + 16, 0, 10), last = strtoull(strchr(offsets + 16, ',') + 1, 0, 10);
      int shape_length = (int)(strchr(shape, ']') + 1 - shape);
      uint64_t count = last - first;
      float *values = malloc(4 * count + 1);
      for (uint64_t i = 0; i < count; i++) {
        values[i] = e4m3((uint8_t)data[first + i]) * (!strcmp(mode, "wrong") ? 2.0f : 1.0f);
      }
      char text[512];
      snprintf(text, sizeof text, "{\"0\":{\"dtype\":\"F32\",%.*s,\"data_offsets\":[0,%llu]}}", shape_length, shape,
               (unsigned long long)(4 * count));
      answer(text, values, 4 * count);
      free(values);
    }
    free(header);
    free(message);
  }
  return 0;
}
