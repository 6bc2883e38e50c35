import Testing

@testable import Training

@Suite struct ProcessMemoryTests {
  @Test func theKernelsLinesAreRead() {
    let text = "Name:\tswiftlet\nVmHWM:\t 9928088 kB\nVmRSS:\t11398996 kB\nMemAvailable:   23456 kB\n"
    #expect(ProcessMemory.value(of: "VmHWM:", inText: text) == 9_928_088 * 1024)
    #expect(ProcessMemory.value(of: "VmRSS:", inText: text) == 11_398_996 * 1024)
    #expect(ProcessMemory.value(of: "MemAvailable:", inText: text) == 23456 * 1024)
    #expect(ProcessMemory.value(of: "VmSwap:", inText: text) == nil)
    #expect(ProcessMemory.peakByteCount >= ProcessMemory.residentByteCount / 2 && ProcessMemory.residentByteCount > 0)
  }
}
