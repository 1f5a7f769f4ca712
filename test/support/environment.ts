type Environment = Readonly<Record<string, string | undefined>>;

/** This process's environment with other values meanwhile; undefined: without that one. */
export async function withEnvironment(values: Environment, work: () => Promise<void>): Promise<void> {
  const before = Object.fromEntries(Object.keys(values).map((key) => [key, process.env[key]]));
  put(values);
  try {
    await work();
  } finally {
    put(before);
  }
}

function put(values: Environment): void {
  for (const [key, value] of Object.entries(values)) {
    if (value === undefined) delete process.env[key];
    else process.env[key] = value;
  }
}
