import { MemoryDriver } from '../../../src/store/driver/memory.ts'
import { storageDriverSuite } from '../../suites/storage-driver.ts'

storageDriverSuite('MemoryDriver', () => Promise.resolve(new MemoryDriver()))
