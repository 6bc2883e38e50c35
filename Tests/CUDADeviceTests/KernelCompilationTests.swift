import Testing

@testable import CUDADevice

/// Every kernel compiles for every generation of cards, with or without a card here.
///
/// Where NVRTC is missing (`script/fetch-nvrtc` fetches it) compilation is skipped.
@Suite struct KernelCompilationTests {
  static let compiler = KernelCompiler(.found)

  @Test(
    .enabled(if: compiler != nil, "NVRTC is not here; script/fetch-nvrtc fetches it"),
    arguments: ["sm_80", "sm_90a", "sm_100"], KernelSource.compiled.map(\.name))
  func compilesWithoutSpilling(architecture: String, name: String) throws {
    let compiler = try #require(Self.compiler)
    let source = try #require(KernelSource.compiled.first { $0.name == name })
    let output = try compiler.compile(source, architecture: architecture)
    #expect(output.cubin.starts(with: [0x7f, 0x45, 0x4c, 0x46]), "machine code is an ELF file")
    let lines = output.log.split(separator: "\n")
    let spills = lines.filter { $0.contains("spill stores") }
    #expect(!spills.isEmpty, "the compiler reports no kernel:\n\(output.log)")
    for line in spills {
      #expect(line.contains("0 bytes spill stores, 0 bytes spill loads"), "\(name) spills registers: \(line)")
    }
    #expect(!output.log.contains("warning"), "\(output.log)")
  }

  @Test func everyKernelFileIsEmbedded() {
    #expect(KernelSource.compiled.count >= 9)
    #expect(
      KernelSource.included.map(\.name).sorted() == [
        "attention.cuh", "cached_heads.cuh", "half.cuh", "nf4.cuh", "prelude.cuh", "rows.cuh", "rows_nf4.cuh",
        "rows_one.cuh",
      ])
    for source in KernelSource.all { #expect(source.text.hasPrefix("//"), "\(source.name) begins with what it is") }
  }

  @Test(.enabled(if: compiler != nil, "NVRTC is not here; script/fetch-nvrtc fetches it"))
  func anErrorNamesFileAndLine() throws {
    let compiler = try #require(Self.compiler)
    let broken = KernelSource(name: "broken.cu", text: "extern \"C\" __global__ void f() {\n  nonsense;\n}")
    let error = #expect(throws: (any Error).self) { try compiler.compile(broken, architecture: "sm_80") }
    #expect(error.map { "\($0)".contains("broken.cu(2): error") } == true, "\(String(describing: error))")
  }
}
