// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {Initializable} from "@openzeppelin/contracts-upgradeable/proxy/utils/Initializable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {ERC1967Utils} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Utils.sol";
import {AppAuth} from "../src/AppAuth.sol";
import {Governed} from "../src/Governed.sol";
import {IAppAuthBatches} from "../src/IAppAuthBatches.sol";
import {IKmsAuthBatches} from "../src/IKmsAuthBatches.sol";
import {IKmsAuthManagement} from "../src/IKmsAuthManagement.sol";
import {KmsAuth} from "../src/KmsAuth.sol";
import {VM} from "./Cheats.sol";
import {Fixture} from "./Fixture.sol";

contract LaterAppAuth is AppAuth {
    function generation() external pure returns (uint256) {
        return 3;
    }
}

contract LaterKmsAuth is KmsAuth {
    function generation() external pure returns (uint256) {
        return 3;
    }
}

/// @dev Who may govern, how the office is handed over, and what an upgrade may and may not do.
contract GovernedTest is Fixture {
    function testFuzz_onlyTheOwnerGovernsAnApp(address caller, bytes32 value, bool set) public {
        VM.assume(caller != TENANT);
        bytes[] memory calls = new bytes[](16);
        bytes32[] memory values = new bytes32[](1);
        values[0] = value | bytes32(uint256(1));
        calls[0] = abi.encodeCall(AppAuth.addComposeHash, (value | bytes32(uint256(1))));
        calls[1] = abi.encodeCall(AppAuth.removeComposeHash, (COMPOSE));
        calls[2] = abi.encodeCall(AppAuth.addDevice, (value | bytes32(uint256(1))));
        calls[3] = abi.encodeCall(AppAuth.removeDevice, (DEVICE));
        calls[4] = abi.encodeCall(AppAuth.setAllowAnyDevice, (set));
        calls[5] = abi.encodeCall(AppAuth.setRequireTcbUpToDate, (set));
        calls[6] = abi.encodeCall(AppAuth.disableUpgrades, ());
        calls[7] = abi.encodeCall(UUPSUpgradeable.upgradeToAndCall, (address(appImplementation), ""));
        calls[8] = abi.encodeCall(OwnableUpgradeable.renounceOwnership, ());
        calls[9] = abi.encodeWithSignature("transferOwnership(address)", caller);
        calls[10] = abi.encodeCall(IAppAuthBatches.addComposeHashes, (values));
        calls[11] = abi.encodeCall(IAppAuthBatches.removeComposeHashes, (values));
        calls[12] = abi.encodeCall(IAppAuthBatches.addDevices, (values));
        calls[13] = abi.encodeCall(IAppAuthBatches.removeDevices, (values));
        calls[14] = abi.encodeCall(Governed.pause, ());
        calls[15] = abi.encodeCall(Governed.unpause, ());
        refusesAll(address(app), caller, calls);
        assertAllowed(kms, boot());
    }

    function testFuzz_onlyTheOwnerGovernsTheRegistry(address caller, bytes32 value) public {
        VM.assume(caller != OPERATOR);
        bytes[] memory calls = new bytes[](23);
        bytes32[] memory values = new bytes32[](1);
        values[0] = value;
        calls[0] = abi.encodeCall(KmsAuth.addOsImageHash, (value));
        calls[1] = abi.encodeCall(KmsAuth.removeOsImageHash, (IMAGE));
        calls[2] = abi.encodeCall(KmsAuth.addKmsDevice, (value));
        calls[3] = abi.encodeCall(KmsAuth.removeKmsDevice, (value));
        calls[4] = abi.encodeCall(KmsAuth.addKmsAggregatedMr, (value));
        calls[5] = abi.encodeCall(KmsAuth.removeKmsAggregatedMr, (value));
        calls[6] = abi.encodeCall(KmsAuth.setKmsInfo, (KmsAuth.KmsInfo("", "", "", "")));
        calls[7] = abi.encodeCall(KmsAuth.setKmsQuote, (""));
        calls[8] = abi.encodeCall(KmsAuth.setKmsEventlog, (""));
        calls[9] = abi.encodeCall(KmsAuth.setGatewayAppId, (""));
        calls[10] = abi.encodeCall(KmsAuth.setAppImplementation, (address(appImplementation)));
        calls[11] = abi.encodeCall(UUPSUpgradeable.upgradeToAndCall, (address(appImplementation), ""));
        calls[12] = abi.encodeCall(OwnableUpgradeable.renounceOwnership, ());
        calls[13] = abi.encodeWithSignature("transferOwnership(address)", caller);
        calls[14] = abi.encodeCall(IKmsAuthManagement.deregisterApp, (address(app)));
        calls[15] = abi.encodeCall(IKmsAuthManagement.addOsImageHashes, (values));
        calls[16] = abi.encodeCall(IKmsAuthManagement.removeOsImageHashes, (values));
        calls[17] = abi.encodeCall(Governed.pause, ());
        calls[18] = abi.encodeCall(Governed.unpause, ());
        calls[19] = abi.encodeCall(IKmsAuthBatches.addKmsAggregatedMrs, (values));
        calls[20] = abi.encodeCall(IKmsAuthBatches.removeKmsAggregatedMrs, (values));
        calls[21] = abi.encodeCall(IKmsAuthBatches.addKmsDevices, (values));
        calls[22] = abi.encodeCall(IKmsAuthBatches.removeKmsDevices, (values));
        refusesAll(address(kms), caller, calls);
        assertAllowed(kms, boot());
    }

    function testOwnershipIsHandedOverInTwoSteps() public {
        VM.prank(TENANT);
        app.transferOwnership(STRANGER);
        VM.assertEq(app.owner(), TENANT, "until accepted");
        VM.assertEq(app.pendingOwner(), STRANGER, "pending");

        VM.expectRevert(unauthorized(STRANGER));
        VM.prank(STRANGER);
        app.addComposeHash(OTHER);

        VM.prank(STRANGER);
        app.acceptOwnership();
        VM.assertEq(app.owner(), STRANGER, "after");
        VM.expectRevert(unauthorized(TENANT));
        VM.prank(TENANT);
        app.addComposeHash(OTHER);
    }

    function testFuzz_onlyTheNamedOneAccepts(address caller) public {
        VM.assume(caller != STRANGER);
        VM.prank(OPERATOR);
        kms.transferOwnership(STRANGER);
        VM.expectRevert(unauthorized(caller));
        VM.prank(caller);
        kms.acceptOwnership();
    }

    function testNothingIsInitialisedTwice() public {
        VM.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        kms.initialize(STRANGER, address(0));
        VM.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        app.initialize(STRANGER, false, true, 0, 0);
        VM.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        app.initialize(STRANGER, false, true, true, 0, 0);
    }

    function testImplementationsAreNeverInitialised() public {
        VM.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        appImplementation.initialize(STRANGER, false, true, 0, 0);
        KmsAuth implementation = new KmsAuth();
        VM.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        implementation.initialize(STRANGER, address(0));
        VM.assertEq(implementation.owner(), address(0), "no owner");
    }

    function testRegistryNeedsAnOwner() public {
        KmsAuth implementation = new KmsAuth();
        VM.expectRevert(abi.encodeWithSelector(OwnableUpgradeable.OwnableInvalidOwner.selector, address(0)));
        new ERC1967Proxy(address(implementation), abi.encodeCall(KmsAuth.initialize, (address(0), address(0))));
    }

    function testUpgradeOfAnAppKeepsItsPolicy() public {
        address later = address(new LaterAppAuth());
        expectPolicy(address(app), TENANT, "implementation-upgrade", word(later), true);
        VM.prank(TENANT);
        app.upgradeToAndCall(later, "");
        VM.assertEq(LaterAppAuth(address(app)).generation(), 3, "upgraded");
        assertAllowed(kms, boot());
        VM.assertEq(app.owner(), TENANT, "owner");
    }

    function testUpgradeOfTheRegistryKeepsItsPolicy() public {
        address later = address(new LaterKmsAuth());
        expectPolicy(address(kms), OPERATOR, "implementation-upgrade", word(later), true);
        VM.prank(OPERATOR);
        kms.upgradeToAndCall(later, "");
        VM.assertEq(LaterKmsAuth(address(kms)).generation(), 3, "upgraded");
        assertAllowed(kms, boot());
    }

    function testUpgradesStopForGood() public {
        VM.expectEmit(address(app));
        emit AppAuth.UpgradesDisabled();
        expectPolicy(address(app), TENANT, "upgrades-disabled", 0, true);
        VM.prank(TENANT);
        app.disableUpgrades();
        refusesUpgrade(app);

        refusesUpgrade(AppAuth(kms.deployAndRegisterApp(TENANT, true, false, false, DEVICE, COMPOSE)));
    }

    function testUpgradeNeedsAnUpgradeableContract() public {
        VM.expectRevert(abi.encodeWithSelector(ERC1967Utils.ERC1967InvalidImplementation.selector, address(this)));
        VM.prank(TENANT);
        app.upgradeToAndCall(address(this), "");
    }

    function testImplementationsAreNotUpgradedThemselves() public {
        address later = address(new LaterAppAuth());
        VM.expectRevert(abi.encodeWithSelector(UUPSUpgradeable.UUPSUnauthorizedCallContext.selector));
        appImplementation.upgradeToAndCall(later, "");
    }

    function refusesUpgrade(AppAuth target) private {
        address later = address(new LaterAppAuth());
        VM.expectRevert(bytes("Upgrades are permanently disabled"));
        VM.prank(TENANT);
        target.upgradeToAndCall(later, "");
        VM.assertEq(VM.load(address(target), IMPLEMENTATION_SLOT), word(address(appImplementation)), "implementation");
    }

    function refusesAll(address target, address caller, bytes[] memory calls) private {
        for (uint256 i = 0; i < calls.length; i++) {
            VM.prank(caller);
            (bool done, bytes memory answer) = target.call(calls[i]);
            VM.assertFalse(done, "a stranger got through");
            VM.assertEq(answer, unauthorized(caller), "refusal");
        }
    }

    function unauthorized(address caller) private pure returns (bytes memory) {
        return abi.encodeWithSelector(OwnableUpgradeable.OwnableUnauthorizedAccount.selector, caller);
    }
}
