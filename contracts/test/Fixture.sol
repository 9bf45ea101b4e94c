// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {AppAuth} from "../src/AppAuth.sol";
import {Governed} from "../src/Governed.sol";
import {IAppAuth} from "../src/IAppAuth.sol";
import {KmsAuth} from "../src/KmsAuth.sol";
import {VM} from "./Cheats.sol";

/// @dev A registry with one application, in which `boot()` is allowed, and the assertions on verdicts and events.
abstract contract Fixture {
    bytes32 internal constant COMPOSE = keccak256("compose");
    bytes32 internal constant DEVICE = keccak256("device");
    bytes32 internal constant IMAGE = keccak256("image");
    bytes32 internal constant MEASUREMENT = keccak256("measurement");
    bytes32 internal constant OTHER = keccak256("other");

    /// @dev ERC-1967: keccak256("eip1967.proxy.implementation") - 1.
    bytes32 internal constant IMPLEMENTATION_SLOT = bytes32(uint256(keccak256("eip1967.proxy.implementation")) - 1);

    address internal constant OPERATOR = address(0x0B);
    address internal constant TENANT = address(0x7E);
    address internal constant STRANGER = address(0x57);

    AppAuth internal appImplementation;
    KmsAuth internal kms;
    AppAuth internal app;

    function setUp() public virtual {
        appImplementation = new AppAuth();
        kms = newKms(OPERATOR, address(appImplementation));
        app = AppAuth(kms.deployAndRegisterApp(TENANT, false, true, false, DEVICE, COMPOSE));
        VM.prank(OPERATOR);
        kms.addOsImageHash(IMAGE);
    }

    function newKms(address owner, address implementation) internal returns (KmsAuth) {
        bytes memory call = abi.encodeCall(KmsAuth.initialize, (owner, implementation));
        return KmsAuth(address(new ERC1967Proxy(address(new KmsAuth()), call)));
    }

    /// @dev A guest that meets every rule of the fixture's application.
    function boot() internal view returns (IAppAuth.AppBootInfo memory info) {
        info.appId = address(app);
        info.composeHash = COMPOSE;
        info.instanceId = address(0x1);
        info.deviceId = DEVICE;
        info.mrAggregated = MEASUREMENT;
        info.mrSystem = keccak256("system");
        info.osImageHash = IMAGE;
        info.tcbStatus = "UpToDate";
        info.advisoryIds = new string[](0);
    }

    function assertAllowed(IAppAuth contract_, IAppAuth.AppBootInfo memory info) internal view {
        (bool allowed, string memory reason) = contract_.isAppAllowed(info);
        assertVerdict(allowed, reason, "");
    }

    function assertRefused(IAppAuth contract_, IAppAuth.AppBootInfo memory info, string memory expected) internal view {
        (bool allowed, string memory reason) = contract_.isAppAllowed(info);
        assertVerdict(allowed, reason, expected);
    }

    /// @dev An empty `expected` stands for allowed.
    function assertVerdict(bool allowed, string memory reason, string memory expected) internal pure {
        VM.assertEq(reason, expected, "reason");
        VM.assertTrue(allowed == (bytes(expected).length == 0), "verdict");
    }

    /// @dev Expects the audit event from the call that follows.
    function expectPolicy(address emitter, address actor, string memory policy, bytes32 value, bool enabled) internal {
        VM.expectEmit(emitter);
        emit Governed.PolicyChanged(actor, keccak256(bytes(policy)), value, enabled);
    }

    function word(address value) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(value)));
    }
}
