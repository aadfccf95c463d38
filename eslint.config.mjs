/** What is checked in the scripts of the gallery and of exported pages; prettier looks after their layout. */

const RULES = [
  "array-callback-return",
  "constructor-super",
  "eqeqeq",
  "for-direction",
  "getter-return",
  "no-case-declarations",
  "no-class-assign",
  "no-cond-assign",
  "no-const-assign",
  "no-constant-binary-expression",
  "no-constant-condition",
  "no-dupe-args",
  "no-dupe-class-members",
  "no-dupe-else-if",
  "no-dupe-keys",
  "no-duplicate-case",
  "no-duplicate-imports",
  "no-empty",
  "no-eval",
  "no-fallthrough",
  "no-func-assign",
  "no-implied-eval",
  "no-import-assign",
  "no-loss-of-precision",
  "no-new-func",
  "no-self-assign",
  "no-self-compare",
  "no-shadow-restricted-names",
  "no-sparse-arrays",
  "no-this-before-super",
  "no-undef",
  "no-unreachable",
  "no-unsafe-finally",
  "no-unsafe-negation",
  "no-unsafe-optional-chaining",
  "no-unused-private-class-members",
  "no-unused-vars",
  "no-use-before-define",
  "no-var",
  "prefer-const",
  "use-isnan",
  "valid-typeof",
];

const OPTIONS = {
  "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
  "no-unused-vars": ["error", { args: "after-used", argsIgnorePattern: "^_" }],
};

const BROWSER = [
  "AbortController", "AbortSignal", "Blob", "CustomEvent", "DOMException", "Element", "Event", "EventTarget", "File", "FormData", "HTMLElement",
  "Image", "ImageData", "IntersectionObserver", "MutationObserver", "Node", "Option", "ResizeObserver", "Response", "WheelEvent",
  "URL", "URLSearchParams", "addEventListener", "cancelAnimationFrame", "clearInterval", "clearTimeout", "console",
  "createImageBitmap", "crypto", "customElements", "devicePixelRatio", "dispatchEvent", "document", "fetch", "getComputedStyle",
  "history", "innerHeight", "innerWidth", "localStorage", "location", "matchMedia", "navigator", "performance",
  "queueMicrotask", "requestAnimationFrame", "requestIdleCallback", "scrollTo", "scrollX", "scrollY",
  "sessionStorage", "setInterval", "setTimeout", "structuredClone", "window",
];

export default [
  {
    languageOptions: {
      ecmaVersion: 2023,
      sourceType: "module",
      globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])),
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: Object.fromEntries(RULES.map((rule) => [rule, OPTIONS[rule] ?? "error"])),
  },
  { files: ["search/export/templates/*.js"], languageOptions: { sourceType: "script" } },
];
