// The same declarations, for `import`.
export * from "./testing.cjs";
