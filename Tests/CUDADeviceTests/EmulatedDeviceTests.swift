import CUDAEmulator
import SelfTest
import Tensors
import TestSupport
import Testing

@testable import CUDADevice

/// Gives the emulator's functions.
final class EmulatorSymbols: SymbolSource {
  let path: String? = "the emulator"
  func symbol(_ name: UnsafePointer<CChar>) -> UnsafeMutableRawPointer? { sl_emulated_symbol(name) }
}

/// The CUDA device over the kernels' own sources, run on the processor.
@Suite(.serialized) struct EmulatedDeviceTests {
  private func device(kernels: String) throws -> CUDADevice {
    try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels)
  }

  @Test func everyOperationAgreesWithItsDefinition() throws {
    let folder = try TemporaryFolder()
    let device = try device(kernels: folder.path)
    var count = 0
    try SelfTest(device, seed: 7, large: false).run { result in
      count += 1
      #expect(result.passed, "\(result)")
    }
    #expect(count > 200)
  }

  /// Cards with 99 KB of shared memory have kernels of their own for a few rows.
  @Test func littleSharedMemoryIsEnough() throws {
    let folder = try TemporaryFolder()
    sl_emulate_block_memory(99 << 10)
    defer { sl_emulate_block_memory(227 << 10) }
    let device = try device(kernels: folder.path)
    var count = 0
    for filter in ["NF4", "frozen"] {
      try SelfTest(device, seed: 9, large: false).run(filter: filter) { result in
        count += 1
        #expect(result.passed, "\(result)")
      }
    }
    #expect(count > 60)
  }

  /// As `selftest --far` has it, over fewer bytes.
  @Test func rowsMayBeFarApart() throws {
    let folder = try TemporaryFolder()
    let device = try device(kernels: folder.path)
    var count = 0
    try SelfTest(device, seed: 8, large: false, span: 8 << 20).run { result in
      count += 1
      #expect(result.passed, "\(result)")
    }
    #expect(count > 100)
  }

  @Test func kernelsAreCompiledOnce() throws {
    let folder = try TemporaryFolder()
    let first = try device(kernels: folder.path).compiledKernelFiles
    #expect(first > 5)
    #expect(try device(kernels: folder.path).compiledKernelFiles == 0)
  }

  @Test func memoryGoesBackAndItsPeakIsKnown() throws {
    let folder = try TemporaryFolder()
    let before = sl_emulated_bytes()
    do {
      let device = try device(kernels: folder.path)
      let base = device.allocatedBytes
      do {
        _ = try device.allocate(byteCount: 1 << 20)
        #expect(device.peakBytes == base + 1 << 20)
      }
      #expect(device.allocatedBytes == base)
      device.resetPeak()
      #expect(device.memory?.peak == base)
    }
    #expect(sl_emulated_bytes() == before)
  }

  @Test func fullMemorySaysWhatWasAskedAndWhatHelps() throws {
    let folder = try TemporaryFolder()
    let device = try device(kernels: folder.path)
    let error = #expect(throws: DeviceError.self) { try device.allocate(byteCount: 1 << 40) }
    #expect(error?.description.contains("1048576 MiB asked for") == true)
    #expect(error?.description.contains("--recompute all") == true)
  }
}
