// swift-tools-version: 6.2
import PackageDescription

// A target is a room: it imports only rooms below it (docs/architecture.md). Warnings are errors everywhere.
let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]
// The hot loops are C. -O3 is appended after SwiftPM's own level and wins, in debug builds too; no flag names a CPU, the
// kernels choose their instructions at run time.
let kernels: [CSetting] = [
  .unsafeFlags(["-O3", "-std=c2x", "-Wall", "-Werror", "-fno-math-errno", "-ffp-contract=fast"])
]

/// A room and the rooms below it that it uses: all that it imports, or a change of theirs would not build it again.
func room(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

/// The tests of one room.
func tests(of name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .testTarget(
    name: name + "Tests", dependencies: [.byName(name: name), "TestSupport"] + dependencies, swiftSettings: strict)
}

let package = Package(
  name: "Swiftlet",
  products: [
    .library(name: "Swiftlet", targets: ["Swiftlet"]),
    .executable(name: "swiftlet", targets: ["SwiftletCLI"]),
  ],
  targets: [
    // Libraries of the system.
    .systemLibrary(name: "CPCRE2", pkgConfig: "libpcre2-8", providers: [.apt(["libpcre2-dev"])]),
    .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    // C of our own.
    .target(name: "CBlockFormats", cSettings: kernels),
    .target(name: "CTokenization", cSettings: kernels),
    .target(
      name: "CPUKernels", dependencies: ["CBlockFormats"], cSettings: kernels,
      // oneDNN ships no .pc file on Debian.
      linkerSettings: [.linkedLibrary("dnnl"), .linkedLibrary("m")]),
    // libcurl is opened at run time; only its header is needed to build.
    .target(name: "CHub", cSettings: kernels),
    // Declarations of NVIDIA's libraries, which are opened at run time, and the GPU's kernels as text.
    .target(name: "CUDADriver", cSettings: kernels),
    .target(name: "CUDAKernels", exclude: ["Kernels"], cSettings: kernels),
    // Rooms.
    room("JSONValues", []),
    room("CommandLineParsing", []),
    room("Tensors", ["CBlockFormats"]),
    room("ModelFiles", ["Tensors", "JSONValues", "CBlockFormats"]),
    room("Hub", ["ModelFiles", "JSONValues", "CHub"]),
    room("Tokenization", ["JSONValues", "CPCRE2", "CTokenization"]),
    room("Doctor", ["ModelFiles", "Tokenization", "JSONValues"]),
    room("CPUDevice", ["Tensors", "CPUKernels", "CBlockFormats"]),
    room("CUDADevice", ["Tensors", "CPUDevice", "CUDADriver", "CUDAKernels"]),
    room("Models", ["Tensors", "ModelFiles"]),
    room("Training", ["Models", "ModelFiles", "Tensors", "Tokenization", "JSONValues", "CHub", "CZlib", "CZstd"]),
    room(
      "Export",
      [
        "Doctor", "Models", "ModelFiles", "Training", "Tokenization", "JSONValues", "CPUDevice", "CPUKernels",
        "Tensors",
      ]),
    room(
      "Quantization",
      ["Export", "Doctor", "Models", "ModelFiles", "Tensors", "JSONValues", "CPUDevice", "CPUKernels", "CBlockFormats"]),
    room("SelfTest", ["Tensors", "Models", "CPUDevice"]),
    room(
      "Swiftlet",
      [
        "Training", "Export", "Doctor", "Tokenization", "CPUDevice", "Models", "ModelFiles", "Tensors", "JSONValues",
        "CommandLineParsing", "Hub", "CYAML", "CUDADevice", "SelfTest", "Quantization",
      ]),
    .executableTarget(
      name: "SwiftletCLI",
      dependencies: [
        "Swiftlet", "Doctor", "Export", "Quantization", "Training", "Tokenization", "Models", "ModelFiles", "Hub",
        "JSONValues",
        "CommandLineParsing",
        "CPUDevice", "CPUKernels", "CUDADevice", "SelfTest",
      ],
      swiftSettings: strict),
    // Examples, which the tests run.
    .executableTarget(
      name: "FineTune", dependencies: ["Swiftlet"], path: "Examples/FineTune", swiftSettings: strict),
    // Tests.
    // Renders the templates that Tests/Golden/compare_templates.py asks for.
    .executableTarget(
      name: "RenderTemplates", dependencies: ["Tokenization", "JSONValues"], path: "Tests/RenderTemplates",
      swiftSettings: strict),
    .target(
      name: "TestSupport", dependencies: ["CHub", "JSONValues", "ModelFiles"], path: "Tests/TestSupport",
      swiftSettings: strict),
    tests(of: "JSONValues"),
    tests(of: "CommandLineParsing"),
    tests(of: "Tensors"),
    tests(of: "ModelFiles", ["CBlockFormats", "JSONValues", "Tensors"]),
    tests(of: "Hub", ["CHub", "ModelFiles"]),
    tests(of: "Tokenization", ["ModelFiles", "JSONValues", "CTokenization"]),
    tests(of: "Doctor", ["ModelFiles", "Tokenization", "JSONValues"]),
    tests(of: "CPUDevice", ["CPUKernels"]),
    tests(of: "Models", ["CPUDevice", "ModelFiles", "Tensors", "JSONValues"]),
    tests(of: "Training", ["CPUDevice", "Models", "ModelFiles", "JSONValues", "CZlib", "CZstd"]),
    tests(of: "Quantization", ["CPUDevice", "Export", "Models", "ModelFiles", "Tensors", "JSONValues"]),
    tests(of: "Export", ["CPUDevice", "Models", "ModelFiles", "Training", "JSONValues"]),
    // A GPU that is not there: the kernels' sources built for the processor.
    .target(
      name: "CUDAEmulator", path: "Tests/CUDAEmulator",
      cxxSettings: [
        .unsafeFlags(["-O2", "-std=c++20", "-Wall", "-Werror", "-Wno-pass-failed", "-Wno-unknown-pragmas"]),
        .headerSearchPath("../../Sources/CUDAKernels/Kernels"),
      ]),
    tests(
      of: "CUDADevice",
      ["CUDAEmulator", "SelfTest", "Models", "ModelFiles", "Training", "JSONValues", "Quantization", "CPUDevice"]),
    tests(of: "Swiftlet", ["Export", "Training", "CommandLineParsing", "FineTune"]),
    tests(of: "SwiftletCLI", ["Hub", "JSONValues"]),
  ],
  swiftLanguageModes: [.v6]
)
