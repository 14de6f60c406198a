"use strict";
const METHODS = ["get", "post", "put", "patch", "delete"];
async function showOperations() {
  const { paths } = await read("/api/openapi.json");
  const rows = Object.entries(paths).sort(([one], [other]) => one.localeCompare(other)).flatMap(([path, operations]) =>
    METHODS.filter((method) => operations[method]).map((method) => {
      const address = cell();
      address.append(make("code", "", path));
      return row([cell(method.toUpperCase()), address, cell((operations[method].description || operations[method].summary || "").split("\n")[0])]);
    }));
  fill("operations", rows, 3, "The node does not tell.");
}
showOperations();
watch([], () => {});
