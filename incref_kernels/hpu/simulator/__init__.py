"""The operators of Gaudi on the CPU, as far as public material tells what they compute. Never compared with a Gaudi."""
